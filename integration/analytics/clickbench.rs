//! ClickBench's table, and page views from a seed that its queries find something in.

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::rig::Table;

/// By who looks at the pages.
pub(crate) const BY_USER: &str = "
    groups:
      user: {key: bigint, tables: {hits: userid}}
";
/// On every server.
pub(crate) const INDEXES: &str = "ALTER TABLE hits ADD PRIMARY KEY (CounterID, EventDate, UserID, EventTime, WatchID)";

const HITS: &[(&str, &str)] = &[
    ("WatchID", "bigint"),
    ("JavaEnable", "smallint"),
    ("Title", "text"),
    ("GoodEvent", "smallint"),
    ("EventTime", "timestamp"),
    ("EventDate", "date"),
    ("CounterID", "integer"),
    ("ClientIP", "integer"),
    ("RegionID", "integer"),
    ("UserID", "bigint"),
    ("CounterClass", "smallint"),
    ("OS", "smallint"),
    ("UserAgent", "smallint"),
    ("URL", "text"),
    ("Referer", "text"),
    ("IsRefresh", "smallint"),
    ("RefererCategoryID", "smallint"),
    ("RefererRegionID", "integer"),
    ("URLCategoryID", "smallint"),
    ("URLRegionID", "integer"),
    ("ResolutionWidth", "smallint"),
    ("ResolutionHeight", "smallint"),
    ("ResolutionDepth", "smallint"),
    ("FlashMajor", "smallint"),
    ("FlashMinor", "smallint"),
    ("FlashMinor2", "text"),
    ("NetMajor", "smallint"),
    ("NetMinor", "smallint"),
    ("UserAgentMajor", "smallint"),
    ("UserAgentMinor", "varchar(255)"),
    ("CookieEnable", "smallint"),
    ("JavascriptEnable", "smallint"),
    ("IsMobile", "smallint"),
    ("MobilePhone", "smallint"),
    ("MobilePhoneModel", "text"),
    ("Params", "text"),
    ("IPNetworkID", "integer"),
    ("TraficSourceID", "smallint"),
    ("SearchEngineID", "smallint"),
    ("SearchPhrase", "text"),
    ("AdvEngineID", "smallint"),
    ("IsArtifical", "smallint"),
    ("WindowClientWidth", "smallint"),
    ("WindowClientHeight", "smallint"),
    ("ClientTimeZone", "smallint"),
    ("ClientEventTime", "timestamp"),
    ("SilverlightVersion1", "smallint"),
    ("SilverlightVersion2", "smallint"),
    ("SilverlightVersion3", "integer"),
    ("SilverlightVersion4", "smallint"),
    ("PageCharset", "text"),
    ("CodeVersion", "integer"),
    ("IsLink", "smallint"),
    ("IsDownload", "smallint"),
    ("IsNotBounce", "smallint"),
    ("FUniqID", "bigint"),
    ("OriginalURL", "text"),
    ("HID", "integer"),
    ("IsOldCounter", "smallint"),
    ("IsEvent", "smallint"),
    ("IsParameter", "smallint"),
    ("DontCountHits", "smallint"),
    ("WithHash", "smallint"),
    ("HitColor", "char"),
    ("LocalEventTime", "timestamp"),
    ("Age", "smallint"),
    ("Sex", "smallint"),
    ("Income", "smallint"),
    ("Interests", "smallint"),
    ("Robotness", "smallint"),
    ("RemoteIP", "integer"),
    ("WindowName", "integer"),
    ("OpenerName", "integer"),
    ("HistoryLength", "smallint"),
    ("BrowserLanguage", "text"),
    ("BrowserCountry", "text"),
    ("SocialNetwork", "text"),
    ("SocialAction", "text"),
    ("HTTPError", "smallint"),
    ("SendTiming", "integer"),
    ("DNSTiming", "integer"),
    ("ConnectTiming", "integer"),
    ("ResponseStartTiming", "integer"),
    ("ResponseEndTiming", "integer"),
    ("FetchTiming", "integer"),
    ("SocialSourceNetworkID", "smallint"),
    ("SocialSourcePage", "text"),
    ("ParamPrice", "bigint"),
    ("ParamOrderID", "text"),
    ("ParamCurrency", "text"),
    ("ParamCurrencyID", "smallint"),
    ("OpenstatServiceName", "text"),
    ("OpenstatCampaignID", "text"),
    ("OpenstatAdID", "text"),
    ("OpenstatSourceID", "text"),
    ("UTMSource", "text"),
    ("UTMMedium", "text"),
    ("UTMCampaign", "text"),
    ("UTMContent", "text"),
    ("UTMTerm", "text"),
    ("FromTag", "text"),
    ("HasGCLID", "smallint"),
    ("RefererHash", "bigint"),
    ("URLHash", "bigint"),
    ("CLID", "integer"),
];

/// The user whom Q20 looks for.
const SOUGHT_USER: i64 = 435_090_932_899_640_449;
/// The referer of Q41 and the page of Q42, by their hashes.
const SOUGHT_REFERER: i64 = 3_594_120_000_172_545_465;
const SOUGHT_PAGE: i64 = 2_868_770_270_353_813_622;
/// Most page views are counted for this one, which Q37 to Q43 are about.
const SOUGHT_COUNTER: usize = 62;
const PHRASES: [&str; 12] = [
    "карта москвы",
    "погода в казани",
    "купить билеты",
    "google translate",
    "weather tomorrow",
    "how to bake bread",
    "Ёлка",
    "ёлка",
    "cheap flights",
    "it's here",
    "100% cotton",
    "last night",
];
const MODELS: [&str; 5] = ["iPad", "iPhone 5", "Galaxy S", "Lumia 920", "N900"];

/// The table with that many rows, all of July 2013.
pub(crate) fn tables(count: usize) -> Vec<Table> {
    let mut random = StdRng::seed_from_u64(62);
    let mut users = vec![SOUGHT_USER];
    users.extend((0..count / 10).map(|_| random.random::<i64>()));
    let mut rows = String::new();
    for number in 0..count {
        let user = users[skewed(&mut random, users.len())];
        let hit = Hit::new(&mut random, user, number);
        for (place, (name, kind)) in HITS.iter().enumerate() {
            if place > 0 {
                rows.push('\t');
            }
            rows.push_str(&hit.cell(name).unwrap_or_else(|| any(&mut random, kind)));
        }
        rows.push('\n');
    }
    vec![Table { name: "hits", columns: HITS, rows }]
}

/// Small numbers more often than large ones.
fn skewed(random: &mut StdRng, below: usize) -> usize {
    let most = random.random_range(1..=below);
    random.random_range(0..most)
}

/// What queries ask of one page view; other columns hold anything.
struct Hit {
    watch: i64,
    user: i64,
    address: i64,
    region: usize,
    counter: usize,
    time: String,
    page: usize,
    referer: usize,
    site: &'static str,
    phrase: String,
    engine: usize,
    advertiser: usize,
    model: &'static str,
    source: i64,
    width: usize,
    window: (usize, usize),
    is_refresh: bool,
    is_link: bool,
    is_counted: bool,
}

impl Hit {
    fn new(random: &mut StdRng, user: i64, number: usize) -> Self {
        let minute = random.random_range(0..31 * 24 * 60);
        // Two page views may have one moment, and never one number.
        let second = number % 60;
        let time = format!("2013-07-{:02} {:02}:{:02}:{second:02}", minute / 1440 + 1, minute / 60 % 24, minute % 60);
        let searched = random.random_bool(0.2);
        let phrase = match searched {
            true => format!("{} {}", PHRASES[skewed(random, PHRASES.len())], skewed(random, 20)),
            false => String::new(),
        };
        let other = random.random_range(63..100);
        Self {
            watch: random.random::<i64>().wrapping_add(i64::try_from(number).expect("few rows")),
            user,
            // A user is behind few addresses, negative ones among them.
            address: user % 5000 + random.random_range(0..3),
            region: skewed(random, 60),
            counter: if random.random_bool(0.5) { SOUGHT_COUNTER } else { other },
            time,
            page: skewed(random, 600),
            referer: skewed(random, 80),
            site: ["www.google.ru", "yandex.ru", "example.com"][random.random_range(0..3)],
            phrase,
            engine: if searched { random.random_range(1..5) } else { 0 },
            advertiser: if random.random_bool(0.1) { random.random_range(1..20) } else { 0 },
            model: if random.random_bool(0.2) { MODELS[skewed(random, MODELS.len())] } else { "" },
            source: random.random_range(-1..=7),
            width: [1024, 1280, 1366, 1920][random.random_range(0..4)],
            window: (900 + random.random_range(0..40), 600 + random.random_range(0..40)),
            is_refresh: random.random_bool(0.1),
            is_link: random.random_bool(0.3),
            is_counted: random.random_bool(0.9),
        }
    }

    fn cell(&self, column: &str) -> Option<String> {
        let flag = |it: bool| usize::from(it).to_string();
        Some(match column {
            "WatchID" => self.watch.to_string(),
            "UserID" => self.user.to_string(),
            "ClientIP" => self.address.to_string(),
            "RegionID" => self.region.to_string(),
            "CounterID" => self.counter.to_string(),
            "EventTime" | "ClientEventTime" | "LocalEventTime" => self.time.clone(),
            "EventDate" => self.time[..10].to_owned(),
            "URL" => self.url(),
            "URLHash" => if self.page < 60 { SOUGHT_PAGE } else { SOUGHT_PAGE - self.number() }.to_string(),
            "Title" if self.page % 11 == 3 => String::new(),
            "Title" => format!("{} page {}", if self.page.is_multiple_of(7) { "Google" } else { "A" }, self.page),
            "Referer" if self.referer == 0 => String::new(),
            "Referer" => format!("http://www.site{}.ru/page{}", self.referer % 9, self.referer),
            "RefererHash" => {
                if self.referer < 20 { SOUGHT_REFERER } else { SOUGHT_REFERER - self.number() }.to_string()
            }
            "SearchPhrase" => self.phrase.clone(),
            "SearchEngineID" => self.engine.to_string(),
            "AdvEngineID" => self.advertiser.to_string(),
            "MobilePhoneModel" => self.model.to_owned(),
            "MobilePhone" => self.model.len().to_string(),
            "TraficSourceID" => self.source.to_string(),
            "ResolutionWidth" => self.width.to_string(),
            "WindowClientWidth" => self.window.0.to_string(),
            "WindowClientHeight" => self.window.1.to_string(),
            "IsRefresh" => flag(self.is_refresh),
            "IsLink" => flag(self.is_link),
            "IsDownload" => flag(self.page % 13 == 5),
            "DontCountHits" => flag(!self.is_counted),
            _ => return None,
        })
    }

    fn url(&self) -> String {
        match self.page % 17 {
            6 => String::new(),
            7 => format!("http://pages.ru/google/{}", self.page),
            _ => format!("http://{}/page/{}", self.site, self.page),
        }
    }

    fn number(&self) -> i64 {
        i64::try_from(self.page).expect("few pages")
    }
}

fn any(random: &mut StdRng, kind: &str) -> String {
    match kind {
        "bigint" => random.random::<i64>().to_string(),
        "integer" => random.random_range(-9..1000).to_string(),
        "smallint" => random.random_range(0..9).to_string(),
        "char" => ["a", "b", "5"][random.random_range(0..3)].to_owned(),
        // Most are empty there too.
        _ if random.random_bool(0.8) => String::new(),
        _ => format!("tag{}", random.random_range(0..30)),
    }
}
