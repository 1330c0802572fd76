//! Requests to etcd, by its JSON gateway: one connection at a time, another endpoint when that one fails.
//!
//! Nothing is read into an error but that there was no answer: what was asked may have been done all the same. So all writes are
//! transactions that say what they expect, and whoever writes reads afterwards.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use http_body_util::Limited;
use hyper::Request;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio::time::timeout;

use super::place::Place;
use crate::clock;
use crate::net::ClientTls;
use crate::net::Stream;
use crate::tasks;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdError {
    /// For people.
    pub text: String,
    /// It was etcd that said so; another endpoint would say the same.
    pub is_answer: bool,
}

impl fmt::Display for EtcdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for EtcdError {}

/// Who asks.
#[derive(Clone, Default)]
pub struct Login {
    /// The user's name and password; `None`: etcd asks for none.
    pub user: Option<(String, String)>,
    /// The authorities that vouch for etcd's certificates; `None`: the system's.
    pub ca: Option<std::path::PathBuf>,
}

impl Login {
    /// As the environment says: `SHARDWAY_ETCD_USER`, `SHARDWAY_ETCD_PASSWORD` and `SHARDWAY_ETCD_CA`.
    ///
    /// # Errors
    /// When one is there without the other.
    pub fn of_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let user = match (variable("SHARDWAY_ETCD_USER"), variable("SHARDWAY_ETCD_PASSWORD")) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) => return Err("SHARDWAY_ETCD_USER is set without SHARDWAY_ETCD_PASSWORD".to_owned()),
            (None, Some(_)) => return Err("SHARDWAY_ETCD_PASSWORD is set without SHARDWAY_ETCD_USER".to_owned()),
        };
        Ok(Self { user, ca: variable("SHARDWAY_ETCD_CA").map(Into::into) })
    }
}

/// One key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The whole key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The revision that it was created at.
    pub created: i64,
    /// The revision that it was written at last.
    pub written: i64,
    /// The lease that it ends with; 0: none.
    pub lease: i64,
}

/// etcd, as one client sees it.
pub struct Etcd {
    place: Place,
    login: Login,
    tls: Option<ClientTls>,
    /// Which endpoint is asked first.
    turn: AtomicUsize,
    line: Mutex<Option<Line>>,
    /// How long it is asked again when no endpoint answers.
    patience: Duration,
}

/// One connection.
struct Line {
    sender: http1::SendRequest<String>,
    host: String,
    token: Option<String>,
    local: Option<std::net::IpAddr>,
}

impl Etcd {
    /// Nobody is asked anything yet.
    ///
    /// # Errors
    /// When the certificate authorities cannot be used.
    pub fn new(place: Place, login: Login) -> Result<Self, String> {
        let tls = match place.tls {
            true => Some(
                ClientTls::verified(login.ca.as_deref())
                    .map_err(|error| format!("TLS to etcd: {error}"))?
                    .without_alpn(),
            ),
            false if login.ca.is_some() => {
                return Err("SHARDWAY_ETCD_CA is set, but the address asks for no TLS: write etcds://".to_owned());
            }
            false => None,
        };
        Ok(Self { place, login, tls, turn: AtomicUsize::new(0), line: Mutex::default(), patience: Duration::ZERO })
    }

    /// The same for who asks once, and does not come back: while etcd's members elect a leader, none answers.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { patience: PATIENCE, ..self }
    }

    /// The same for who comes back by itself.
    #[must_use]
    pub fn impatient(self) -> Self {
        Self { patience: Duration::ZERO, ..self }
    }

    /// What is asked.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// This machine's address, as etcd sees it, if it is connected.
    pub async fn local(&self) -> Option<std::net::IpAddr> {
        self.line.lock().await.as_ref().and_then(|it| it.local)
    }

    /// Asks, each endpoint once at most, and again for who is patient.
    ///
    /// # Errors
    /// When none answers, or one refuses.
    pub async fn ask(&self, path: &str, body: &Value) -> Result<Value, EtcdError> {
        let begun = clock::now();
        loop {
            match self.ask_all(path, body).await {
                Err(error) if !error.is_answer && clock::now().since(begun) < self.patience => sleep(BETWEEN).await,
                answer => return answer,
            }
        }
    }

    async fn ask_all(&self, path: &str, body: &Value) -> Result<Value, EtcdError> {
        let mut held = self.line.lock().await;
        let mut last = failure("no endpoint".to_owned());
        // Once more, for a connection that was left open may have ended since.
        for _ in 0..=self.place.endpoints.len() {
            let answer = async {
                let line = match held.take() {
                    Some(line) => held.insert(line),
                    None => held.insert(self.connect().await?),
                };
                line.ask(path, body).await
            };
            let answer = timeout(ANSWER_MAX, answer)
                .await
                .unwrap_or_else(|_| Err(failure(format!("no answer in {ANSWER_MAX:?}"))));
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let host = held.take().map_or_else(|| self.endpoint(), |it| it.host);
                    self.turn.fetch_add(1, Ordering::Relaxed);
                    last = EtcdError { text: format!("etcd at {host}: {error}"), ..error };
                    if last.is_answer {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    /// Begins to watch everything under the prefix, on a connection of its own.
    ///
    /// # Errors
    /// When it cannot be.
    pub async fn watch(&self) -> Result<Watch, EtcdError> {
        let begun = async {
            let mut line = self.connect().await?;
            let key = encode(&self.place.prefix);
            let body = json!({"create_request": {"key": key, "range_end": encode(&after(&self.place.prefix))}});
            let (status, body) = line.send("/v3/watch", &body).await?;
            if status == StatusCode::OK { Ok(Watch { body, _line: line }) } else { Err(failure(format!("{status}"))) }
        };
        let begun = timeout(ANSWER_MAX, begun).await;
        begun.unwrap_or_else(|_| Err(failure(format!("no answer in {ANSWER_MAX:?}"))))
    }

    fn endpoint(&self) -> String {
        let place = self.turn.load(Ordering::Relaxed) % self.place.endpoints.len().max(1);
        self.place.endpoints.get(place).map(|(host, port)| format!("{host}:{port}")).unwrap_or_default()
    }

    async fn connect(&self) -> Result<Line, EtcdError> {
        let place = self.turn.load(Ordering::Relaxed) % self.place.endpoints.len().max(1);
        let (host, port) = self.place.endpoints.get(place).ok_or_else(|| failure("no endpoint".to_owned()))?;
        let broken = |error: std::io::Error| failure(error.to_string());
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(broken)?;
        let mut stream = Stream::tcp(stream).map_err(broken)?;
        let local = stream.local().map(|it| it.ip());
        if let Some(tls) = &self.tls {
            stream = stream.connect_tls(&[], tls, host).await.map_err(|error| failure(error.to_string()))?;
        }
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failure(error.to_string()))?;
        // It ends with the sender; what went wrong the sender is told, too.
        tasks::shared("etcd", async move { drop(connection.await) });
        let mut line = Line { sender, host: format!("{host}:{port}"), token: None, local };
        if let Some((name, password)) = &self.login.user {
            let asked = json!({"name": name, "password": password});
            let answer = line.ask("/v3/auth/authenticate", &asked).await?;
            line.token = answer.get("token").and_then(Value::as_str).map(str::to_owned);
        }
        Ok(line)
    }

    // ── what is asked ──

    /// What all these keys hold at one moment: each is one key, or with a slash at its end all that begin with it.
    ///
    /// # Errors
    /// As [`Etcd::ask`].
    pub async fn read(&self, keys: &[&str]) -> Result<Vec<Vec<Pair>>, EtcdError> {
        let ranges: Vec<Value> = keys.iter().map(|it| self.range(it)).collect();
        let answer = self.ask("/v3/kv/txn", &json!({"success": ranges})).await?;
        let responses = answer.get("responses").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        Ok(responses.iter().map(|it| pairs(it.get("response_range").unwrap_or(&Value::Null))).collect())
    }

    /// Writes all of `puts` if each of `expected` was written last at that revision (0: is not there). Whether it did.
    ///
    /// # Errors
    /// As [`Etcd::ask`]: then it may have been written.
    pub async fn write(
        &self,
        expected: &[(&str, i64)],
        puts: &[(&str, &str)],
        lease: i64,
        removed: &[&str],
    ) -> Result<bool, EtcdError> {
        let compare = expected.iter().map(|(key, at)| {
            json!({"key": encode(&self.key(key)), "target": "MOD", "result": "EQUAL", "mod_revision": at.to_string()})
        });
        let puts = puts.iter().map(|(key, value)| {
            json!({"request_put": {"key": encode(&self.key(key)), "value": encode(value), "lease": lease.to_string()}})
        });
        let removed = removed.iter().map(|key| json!({"request_delete_range": {"key": encode(&self.key(key))}}));
        let asked = json!({"compare": compare.collect::<Vec<_>>(), "success": puts.chain(removed).collect::<Vec<_>>()});
        let answer = self.ask("/v3/kv/txn", &asked).await?;
        Ok(answer.get("succeeded").and_then(Value::as_bool).unwrap_or(false))
    }

    /// A lease of that many seconds: its number and how long etcd made it.
    ///
    /// # Errors
    /// As [`Etcd::ask`].
    pub async fn grant(&self, seconds: u64) -> Result<(i64, Duration), EtcdError> {
        let answer = self.ask("/v3/lease/grant", &json!({"TTL": seconds.to_string()})).await?;
        match (number(&answer, "ID"), ttl(&answer)) {
            (lease, Some(span)) if lease != 0 => Ok((lease, span)),
            _ => Err(failure(format!("no lease in {answer}"))),
        }
    }

    /// Renews a lease: for how long; `None`: it has run out.
    ///
    /// # Errors
    /// As [`Etcd::ask`].
    pub async fn renew(&self, lease: i64) -> Result<Option<Duration>, EtcdError> {
        let answer = self.ask("/v3/lease/keepalive", &json!({"ID": lease.to_string()})).await?;
        answer.get("result").map(ttl).ok_or_else(|| failure(format!("no lease in {answer}")))
    }

    /// Ends a lease, and with it whatever hangs on it.
    ///
    /// # Errors
    /// As [`Etcd::ask`].
    pub async fn revoke(&self, lease: i64) -> Result<(), EtcdError> {
        self.ask("/v3/lease/revoke", &json!({"ID": lease.to_string()})).await.map(drop)
    }

    /// The whole key.
    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.place.prefix)
    }

    fn range(&self, key: &str) -> Value {
        let key = self.key(key);
        if key.ends_with('/') {
            json!({"request_range": {"key": encode(&key), "range_end": encode(&after(&key))}})
        } else {
            json!({"request_range": {"key": encode(&key)}})
        }
    }
}

impl Line {
    async fn send(&mut self, path: &str, body: &Value) -> Result<(StatusCode, Incoming), EtcdError> {
        let broken = |error: hyper::Error| failure(error.to_string());
        self.sender.ready().await.map_err(broken)?;
        let mut request = Request::post(path).header(header::HOST, &self.host);
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request.body(body.to_string()).map_err(|error| failure(error.to_string()))?;
        let answer = self.sender.send_request(request).await.map_err(broken)?;
        let (head, body) = answer.into_parts();
        Ok((head.status, body))
    }

    async fn ask(&mut self, path: &str, body: &Value) -> Result<Value, EtcdError> {
        let (status, body) = self.send(path, body).await?;
        let body = Limited::new(body, BODY_MAX).collect().await.map_err(|error| failure(error.to_string()))?.to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let trouble = answer.get("error").and_then(|it| it.as_str().or_else(|| it.get("message")?.as_str()));
        match trouble {
            None if status == StatusCode::OK => Ok(answer),
            None => Err(failure(format!(
                "it answers {status}: is it etcd from 3.4 on, with its JSON gateway (--enable-grpc-gateway)?"
            ))),
            Some(said) => {
                // gRPC's UNAVAILABLE and DEADLINE_EXCEEDED, and a token that has run out: another connection may help.
                // What ends a stream has its code within.
                let codes = ["/code", "/error/grpc_code", "/error/code"];
                let code = codes.iter().find_map(|it| answer.pointer(it)?.as_i64()).unwrap_or(0);
                let is_answer = !matches!(code, 4 | 14) && !said.contains("invalid auth token");
                let hint = if said.contains("user name is empty") || said.contains("authentication failed") {
                    ": set SHARDWAY_ETCD_USER and SHARDWAY_ETCD_PASSWORD"
                } else {
                    ""
                };
                Err(EtcdError { text: format!("{said}{hint}"), is_answer })
            }
        }
    }
}

/// Tells that something under the prefix may have changed.
pub struct Watch {
    body: Incoming,
    _line: Line,
}

impl Watch {
    /// Waits for it; `false` when watching has ended. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        matches!(self.body.frame().await, Some(Ok(_)))
    }
}

fn failure(text: String) -> EtcdError {
    EtcdError { text, is_answer: false }
}

fn encode(text: &str) -> String {
    STANDARD.encode(text)
}

/// The first key behind all those that begin so.
fn after(prefix: &str) -> String {
    // A prefix ends with a slash, behind which comes "0".
    format!("{}0", prefix.trim_end_matches('/'))
}

fn pairs(range: &Value) -> Vec<Pair> {
    let text = |pair: &Value, field: &str| {
        let bytes = STANDARD.decode(pair.get(field).and_then(Value::as_str).unwrap_or_default()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let all = range.get("kvs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    all.iter()
        .map(|pair| Pair {
            key: text(pair, "key"),
            value: text(pair, "value"),
            created: number(pair, "create_revision"),
            written: number(pair, "mod_revision"),
            lease: number(pair, "lease"),
        })
        .collect()
}

/// 64-bit numbers are texts in JSON, and left out where they are 0.
fn number(of: &Value, field: &str) -> i64 {
    of.get(field).and_then(|it| it.as_i64().or_else(|| it.as_str()?.parse().ok())).unwrap_or(0)
}

fn ttl(of: &Value) -> Option<Duration> {
    u64::try_from(number(of, "TTL")).ok().filter(|it| *it > 0).map(Duration::from_secs)
}

/// How long one endpoint is given, connecting included.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Longer than an election takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before all endpoints are asked again.
const BETWEEN: Duration = Duration::from_millis(100);
/// The largest answer that is taken in.
const BODY_MAX: usize = 64 << 20;
