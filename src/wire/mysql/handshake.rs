//! What is said before the first command: the server's greeting, the client's response, and proofs in between.

use super::Violation;
use super::capability;
use super::read::Reader;
use super::write;

/// Bytes of a salt.
pub const SALT: usize = 20;

/// The first packet of a connection, by the server (HandshakeV10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The server's version, by which clients choose dialects.
    pub version: String,
    /// What KILL names this connection by.
    pub connection: u32,
    /// What passwords are proven with.
    pub salt: [u8; SALT],
    /// What the server can.
    pub capabilities: u32,
    /// Its default collation, the low byte of its number.
    pub collation: u8,
    /// Its status.
    pub status: u16,
    /// How it would have passwords proven.
    pub plugin: String,
}

impl Greeting {
    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let mut out = vec![10];
        write::string(&mut out, self.version.as_bytes());
        out.extend_from_slice(&self.connection.to_le_bytes());
        let (first, rest) = self.salt.split_at(8);
        out.extend_from_slice(first);
        out.push(0);
        let [a, b, c, d] = self.capabilities.to_le_bytes();
        out.extend_from_slice(&[a, b, self.collation]);
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&[c, d, 21]);
        out.extend_from_slice(&[0; 10]);
        out.extend_from_slice(rest);
        out.push(0);
        write::string(&mut out, self.plugin.as_bytes());
        out
    }

    /// Reads a payload. An ERR packet in its place is the caller's to see first.
    ///
    /// # Errors
    /// It is malformed, or of a version of the protocol that nobody has spoken for decades.
    pub fn read(payload: &[u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(payload, "greeting");
        if reader.u8()? != 10 {
            return Err(reader.wrong("is not of version 10"));
        }
        let version = String::from_utf8_lossy(reader.string()?).into_owned();
        let connection = reader.u32()?;
        let mut salt = [0; SALT];
        let (first, rest) = salt.split_at_mut(8);
        first.copy_from_slice(reader.take(8)?);
        reader.take(1)?;
        let low = reader.u16()?;
        let (collation, status, high) = (reader.u8()?, reader.u16()?, reader.u16()?);
        let capabilities = u32::from(low) | u32::from(high) << 16;
        let salt_length = usize::from(reader.u8()?);
        reader.take(10)?;
        if capabilities & capability::SECURE_CONNECTION == 0 || salt_length != SALT + 1 {
            return Err(reader.wrong("has a salt of another length than 20"));
        }
        rest.copy_from_slice(reader.take(SALT - 8)?);
        reader.take(1)?;
        // Old servers leave out the zero.
        let plugin = if capabilities & capability::PLUGIN_AUTH == 0 {
            &[]
        } else if payload.last() == Some(&0) {
            reader.string()?
        } else {
            reader.rest()
        };
        let plugin = String::from_utf8_lossy(plugin).into_owned();
        Ok(Self { version, connection, salt, capabilities, collation, status, plugin })
    }
}

/// The client's answer to the greeting (HandshakeResponse41).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// What the client can, and wants of what the server can.
    pub capabilities: u32,
    /// The longest payload that it takes.
    pub packet_max: u32,
    /// Its collation; a login tells no more than the low byte of its number.
    pub collation: u16,
    /// Who it is.
    pub user: Vec<u8>,
    /// Its proof, by `plugin`.
    pub proof: Vec<u8>,
    /// The database that it wants.
    pub database: Option<Vec<u8>>,
    /// How it proves its password; empty where it does not say.
    pub plugin: Vec<u8>,
    /// What it tells of itself: names and values.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// How hard Zstandard is to try, where that packs what is said: 1 to 22.
    pub zstd_level: u8,
}

/// Bytes of a response before the user's name: all of a request for TLS.
pub const TLS_REQUEST: usize = 32;

impl Response {
    /// The first bytes alone: a request for TLS, behind which the whole response comes.
    #[must_use]
    pub fn tls_request(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TLS_REQUEST);
        out.extend_from_slice(&self.capabilities.to_le_bytes());
        out.extend_from_slice(&self.packet_max.to_le_bytes());
        let [low, _] = self.collation.to_le_bytes();
        out.push(low);
        out.resize(TLS_REQUEST, 0);
        out
    }

    /// Its payload. What `capabilities` does not provide for is left out.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let has = |flag: u32| self.capabilities & flag != 0;
        let mut out = self.tls_request();
        write::string(&mut out, &self.user);
        if has(capability::PLUGIN_AUTH_LENENC) {
            write::bytes(&mut out, &self.proof);
        } else {
            let proof = self.proof.get(..self.proof.len().min(255)).unwrap_or_default();
            out.push(u8::try_from(proof.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(proof);
        }
        if has(capability::CONNECT_WITH_DB) {
            write::string(&mut out, self.database.as_deref().unwrap_or_default());
        }
        if has(capability::PLUGIN_AUTH) {
            write::string(&mut out, &self.plugin);
        }
        if has(capability::CONNECT_ATTRIBUTES) {
            let mut pairs = Vec::new();
            for (name, value) in &self.attributes {
                write::bytes(&mut pairs, name);
                write::bytes(&mut pairs, value);
            }
            write::bytes(&mut out, &pairs);
        }
        if has(capability::ZSTD) {
            out.push(self.zstd_level);
        }
        out
    }

    /// Reads a payload that is not a request for TLS.
    ///
    /// # Errors
    /// It is malformed, or of a client older than MySQL 4.1.
    pub fn read(payload: &[u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(payload, "handshake response");
        let capabilities = reader.u32()?;
        let has = |flag: u32| capabilities & flag != 0;
        if !has(capability::PROTOCOL_41) || !has(capability::SECURE_CONNECTION) {
            return Err(reader.wrong("is of a protocol older than 4.1"));
        }
        let (packet_max, collation) = (reader.u32()?, u16::from(reader.u8()?));
        reader.take(23)?;
        let user = reader.string()?.to_vec();
        let proof = if has(capability::PLUGIN_AUTH_LENENC) {
            reader.bytes()?
        } else {
            let count = usize::from(reader.u8()?);
            reader.take(count)?
        };
        let proof = proof.to_vec();
        let database = if has(capability::CONNECT_WITH_DB) && !reader.is_empty() {
            Some(reader.string()?.to_vec()).filter(|it| !it.is_empty())
        } else {
            None
        };
        let plugin =
            if has(capability::PLUGIN_AUTH) && !reader.is_empty() { reader.string()?.to_vec() } else { Vec::new() };
        let mut attributes = Vec::new();
        if has(capability::CONNECT_ATTRIBUTES) && !reader.is_empty() {
            let mut pairs = Reader::new(reader.bytes()?, "handshake response");
            while !pairs.is_empty() {
                attributes.push((pairs.bytes()?.to_vec(), pairs.bytes()?.to_vec()));
            }
        }
        let zstd_level = if has(capability::ZSTD) && !reader.is_empty() { reader.u8()? } else { 0 };
        // What flags of later versions add stands behind.
        Ok(Self { capabilities, packet_max, collation, user, proof, database, plugin, attributes, zstd_level })
    }
}

/// What a client asks with that takes another user for its connection (COM_CHANGE_USER), behind the command's byte.
///
/// # Errors
/// It is malformed.
pub fn change_user(payload: &[u8], capabilities: u32) -> Result<Response, Violation> {
    let mut reader = Reader::new(payload, "COM_CHANGE_USER");
    let user = reader.string()?.to_vec();
    let count = usize::from(reader.u8()?);
    let proof = reader.take(count)?.to_vec();
    let database = Some(reader.string()?.to_vec()).filter(|it| !it.is_empty());
    let mut response = Response { capabilities, user, proof, database, ..Response::default() };
    if !reader.is_empty() {
        response.collation = reader.u16()?;
    }
    if capabilities & capability::PLUGIN_AUTH != 0 && !reader.is_empty() {
        response.plugin = reader.string()?.to_vec();
    }
    Ok(response)
}

/// The server asks for a proof of another kind (AuthSwitchRequest).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The kind.
    pub plugin: String,
    /// What it is made with.
    pub salt: Vec<u8>,
}

impl Switch {
    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let mut out = vec![0xfe];
        write::string(&mut out, self.plugin.as_bytes());
        out.extend_from_slice(&self.salt);
        if self.salt.len() == SALT {
            out.push(0);
        }
        out
    }

    /// Reads a payload that begins with 0xfe. One of that byte alone asks for the proof of before 4.1, which is none.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(payload: &[u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new(payload, "authentication switch");
        reader.take(1)?;
        let plugin = String::from_utf8_lossy(reader.string()?).into_owned();
        let rest = reader.rest();
        // A salt of the usual length has a zero behind it, which is none of it; one of another length may end in a zero.
        let salt = if rest.len() == SALT + 1 { rest.strip_suffix(&[0]).unwrap_or(rest) } else { rest };
        Ok(Self { plugin, salt: salt.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPABILITIES: u32 = capability::PROTOCOL_41 | capability::SECURE_CONNECTION | capability::PLUGIN_AUTH;

    #[test]
    fn a_greeting_is_read_as_it_was_written() {
        let greeting = Greeting {
            version: "5.5.5-10.11.6-MariaDB".into(),
            connection: 7,
            salt: std::array::from_fn(|it| u8::try_from(it).unwrap() + 1),
            capabilities: CAPABILITIES | capability::DEPRECATE_EOF,
            collation: 45,
            status: 2,
            plugin: "mysql_native_password".into(),
        };
        let payload = greeting.payload();
        assert_eq!(Greeting::read(&payload), Ok(greeting));
        for cut in 0..payload.len() - 1 {
            // Without its last zero the plugin's name is whole still, and a shorter one is another name.
            let read = Greeting::read(&payload[..cut]);
            assert!(read.is_err() || cut >= payload.len() - "mysql_native_password".len() - 1, "{cut}");
        }
    }

    #[test]
    fn a_response_is_read_as_it_was_written() {
        let response = Response {
            capabilities: CAPABILITIES
                | capability::CONNECT_WITH_DB
                | capability::PLUGIN_AUTH_LENENC
                | capability::CONNECT_ATTRIBUTES,
            packet_max: 1 << 24,
            collation: 45,
            user: b"app".to_vec(),
            proof: vec![1; 20],
            database: Some(b"shop".to_vec()),
            plugin: b"caching_sha2_password".to_vec(),
            attributes: vec![(b"_os".to_vec(), b"Linux".to_vec()), (b"_pid".to_vec(), b"1".to_vec())],
            zstd_level: 0,
        };
        assert_eq!(Response::read(&response.payload()), Ok(response.clone()));
        assert_eq!(response.tls_request().len(), TLS_REQUEST);
        let packed =
            Response { capabilities: response.capabilities | capability::ZSTD, zstd_level: 3, ..response.clone() };
        assert_eq!(Response::read(&packed.payload()), Ok(packed));
        let short = Response { capabilities: CAPABILITIES, attributes: Vec::new(), database: None, ..response };
        assert_eq!(Response::read(&short.payload()), Ok(short));
    }

    #[test]
    fn who_changes_the_user_tells_all_of_a_collation() {
        let asked = b"app\0\0shop\0\x31\x01mysql_native_password\0";
        let read = change_user(asked, CAPABILITIES).unwrap();
        assert_eq!((read.collation, read.database.as_deref()), (305, Some(b"shop".as_slice())));
    }

    #[test]
    fn clients_that_are_too_old_are_refused() {
        let old = Response { user: b"app".to_vec(), ..Response::default() };
        assert!(Response::read(&old.payload()).is_err());
    }

    #[test]
    fn a_switch_is_read_as_it_was_written() {
        for salt in [vec![9; SALT], vec![9; 32], [vec![9; 31], vec![0]].concat()] {
            let switch = Switch { plugin: "client_ed25519".into(), salt };
            assert_eq!(Switch::read(&switch.payload()), Ok(switch));
        }
        assert!(Switch::read(&[0xfe]).is_err());
    }
}
