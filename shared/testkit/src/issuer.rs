//! An issuer of tokens: keys of every kind that sign, and an HTTP server of their public halves that can change them, be
//! slow, huge, wrong or away. Its keys are made anew each time; none may be kept.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, crypto, jwk::Jwk};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};

pub use jsonwebtoken::Algorithm;

/// Bytes before the RSAPrivateKey (RFC 8017, appendix A.1.2) in the PKCS #8 form of a 2048-bit key (RFC 5958): its
/// lengths, version and algorithm.
const PKCS8_PREFIX: usize = 26;
/// A connection that says nothing for this long ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// What kind of key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningKeyKind {
    /// RSA, 2048 bits.
    Rsa,
    /// P-256.
    P256,
    /// P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

/// A key that signs tokens.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds a private key")]
pub struct SigningKey {
    /// Its public half as a JSON Web Key (RFC 7517), with its id.
    pub public: Value,
    id: String,
    algorithm: Algorithm,
    private: EncodingKey,
}

impl SigningKey {
    /// A new one of this id, for the algorithm that is usual for its kind.
    pub fn new(id: &str, kind: SigningKeyKind) -> Self {
        let (algorithm, pair) = match kind {
            SigningKeyKind::Rsa => (Algorithm::RS256, KeyPair::generate_for(&PKCS_RSA_SHA256)),
            SigningKeyKind::P256 => (Algorithm::ES256, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)),
            SigningKeyKind::P384 => (Algorithm::ES384, KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)),
            SigningKeyKind::Ed25519 => (Algorithm::EdDSA, KeyPair::generate_for(&PKCS_ED25519)),
        };
        let pair = pair.expect("a key");
        let (der, point) = (pair.serialize_der(), pair.public_key_raw());
        let (private, mut public) = match kind {
            SigningKeyKind::Rsa => {
                let private = EncodingKey::from_rsa_der(&der[PKCS8_PREFIX..]);
                let public = Jwk::from_encoding_key(&private, algorithm).expect("an RSA key");
                let public = serde_json::to_value(public).expect("JSON");
                // For every algorithm of its kind.
                (private, json!({"kty": "RSA", "n": public["n"], "e": public["e"]}))
            }
            SigningKeyKind::P256 => (EncodingKey::from_ec_der(&der), curve("P-256", point)),
            SigningKeyKind::P384 => (EncodingKey::from_ec_der(&der), curve("P-384", point)),
            SigningKeyKind::Ed25519 => {
                let public = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(point)});
                (EncodingKey::from_ed_der(&der), public)
            }
        };
        public["kid"] = id.into();
        public["use"] = "sig".into();
        Self { public, id: id.to_owned(), algorithm, private }
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": format!("{:?}", self.algorithm), "typ": "JWT", "kid": self.id});
        self.sign_as(&header, claims)
    }

    /// A token with this header, which may say anything.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        signed(header, claims, &self.private, self.algorithm)
    }

    /// The same, signed by another algorithm of the key's kind.
    pub fn sign_by(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        signed(header, claims, &self.private, algorithm)
    }
}

/// A token with this header, which may say anything, signed by this key.
pub fn signed(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).expect("a signature");
    format!("{message}.{signature}")
}

fn curve(name: &str, point: &[u8]) -> Value {
    let (x, y) = point[1..].split_at(point.len() / 2);
    json!({"kty": "EC", "crv": name, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
}

/// Answers every request with a key set, on 127.0.0.1. It ends with this value.
#[derive(Debug)]
pub struct KeyServer {
    /// Where it listens.
    pub address: SocketAddr,
    answer: Arc<Mutex<(u16, String, Duration)>>,
    requests: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl KeyServer {
    /// Serves the public halves of these.
    pub fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let answer = Arc::new(Mutex::new((200, key_set(keys), Duration::ZERO)));
        let (requests, is_over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (told, counter, stop) = (Arc::clone(&answer), Arc::clone(&requests), Arc::clone(&is_over));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let (told, counter) = (Arc::clone(&told), Arc::clone(&counter));
                // A client that is not content breaks off: that is what tests are about.
                std::thread::spawn(move || stream.and_then(|stream| serve(&stream, &told, &counter)));
            }
        });
        Self { address, answer, requests, is_over }
    }

    /// Where the keys are.
    pub fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// Serves these instead, from the next request on.
    pub fn rotate(&self, keys: &[&SigningKey]) {
        self.answer(200, &key_set(keys), Duration::ZERO);
    }

    /// Answers with this status and body instead, after a while.
    pub fn answer(&self, status: u16, body: &str, after: Duration) {
        *lock(&self.answer) = (status, body.to_owned(), after);
    }

    /// Requests that it took.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

fn key_set(keys: &[&SigningKey]) -> String {
    json!({ "keys": keys.iter().map(|key| &key.public).collect::<Vec<_>>() }).to_string()
}

/// One request and one answer a connection.
fn serve(
    stream: &TcpStream,
    answer: &Mutex<(u16, String, Duration)>,
    requests: &AtomicUsize,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.take(64 * 1024));
    let mut line = String::new();
    while lines.read_line(&mut line)? > 2 {
        line.clear();
    }
    requests.fetch_add(1, Ordering::AcqRel);
    let (status, body, after) = lock(answer).clone();
    std::thread::sleep(after);
    let head = format!("HTTP/1.1 {status} so\r\nconnection: close\r\ncontent-type: application/json");
    let mut stream = stream;
    write!(stream, "{head}\r\nlocation: /elsewhere\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    stream.flush()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
