//! A server that sends exactly the bytes that a test wants, when the test wants. It serves for answers that no
//! correct server gives.

use rustix::net;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The head of a request that the server received. The body is not read.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub method: String,
    pub target: String,
    /// The headers; the names are in lower case.
    pub headers: HashMap<String, String>,
    /// The number of requests that came before this one, on all connections.
    pub n: usize,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The first and the last byte of the Range header.
    pub(crate) fn range(&self) -> (usize, usize) {
        let range = self.header("range").strip_prefix("bytes=").expect("a range");
        let (first, last) = range.split_once('-').unwrap();
        (first.parse().unwrap(), last.parse().unwrap())
    }

    /// The region in the credential scope of the signature.
    pub(crate) fn region(&self) -> &str {
        self.header("authorization").split('/').nth(2).unwrap_or("")
    }
}

pub(crate) trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// The result of a handler. Ok keeps the connection open, Err closes it.
pub(crate) type Answered = io::Result<()>;
type Handler = dyn Fn(&Request, &mut dyn Wire) -> Answered + Send + Sync;

/// A port that refuses connections until a server listens on it. No other process can take it meanwhile.
pub(crate) struct QuietPort {
    socket: OwnedFd,
    pub address: SocketAddr,
}

impl QuietPort {
    pub(crate) fn take() -> Self {
        let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).unwrap();
        net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = SocketAddr::try_from(net::getsockname(&socket).unwrap()).unwrap();
        Self { socket, address }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn listen(self) -> TcpListener {
        net::listen(&self.socket, 16).unwrap();
        self.socket.into()
    }
}

pub(crate) struct RawServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    handler: Box<Handler>,
    tls: Option<Arc<rustls::ServerConfig>>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    stopped: AtomicBool,
}

impl RawServer {
    pub(crate) fn start(handler: impl Fn(&Request, &mut dyn Wire) -> Answered + Send + Sync + 'static) -> Self {
        Self::start_with(None, handler)
    }

    pub(crate) fn start_with(
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(&Request, &mut dyn Wire) -> Answered + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").unwrap(), tls, handler)
    }

    pub(crate) fn start_at(
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(&Request, &mut dyn Wire) -> Answered + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            tls,
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(SeqCst) {
                    break;
                }
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || stream.and_then(|stream| serve(&shared, stream)));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) -> Answered {
    shared.connections.fetch_add(1, SeqCst);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let tls = shared.tls.clone();
    // A client that uses a proxy first asks for a tunnel. This server plays the proxy too and answers the tunnelled
    // requests itself.
    let mut peeked = [0; 8];
    let len = stream.peek(&mut peeked)?;
    if peeked[..len].starts_with(b"CONNECT ") {
        let request = read_head(&mut BufReader::with_capacity(1, &mut stream), shared)?;
        assert_eq!(request.method, "CONNECT");
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    }
    match tls {
        None => exchange(shared, BufReader::new(stream)),
        Some(tls) => {
            let connection = rustls::ServerConnection::new(tls).map_err(io::Error::other)?;
            exchange(shared, BufReader::new(rustls::StreamOwned::new(connection, stream)))
        }
    }
}

fn exchange<S: Read + Write>(shared: &Shared, mut stream: BufReader<S>) -> Answered {
    loop {
        let request = read_head(&mut stream, shared)?;
        (shared.handler)(&request, stream.get_mut())?;
    }
}

fn read_head(stream: &mut impl BufRead, shared: &Shared) -> io::Result<Request> {
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line.is_empty() {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof))
        } else {
            Ok(line.trim_end().to_owned())
        }
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut requests = shared.requests.lock().unwrap();
    let request = Request { method, target, headers, n: requests.len() };
    requests.push(request.clone());
    Ok(request)
}

/// Ends the connection without an answer.
pub(crate) fn close() -> Answered {
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// Sends an answer with a body and its length. `headers` are lines that end in CRLF.
pub(crate) fn answer(to: &mut dyn Wire, status: &str, headers: &str, body: &[u8]) -> Answered {
    write!(to, "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len())?;
    to.write_all(body)?;
    to.flush()
}

/// Sends an S3 error with this status and error code.
pub(crate) fn refuse(to: &mut dyn Wire, status: &str, headers: &str, code: &str) -> Answered {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>told {code}</Message>\
         <RequestId>REQ-{code}</RequestId></Error>"
    );
    answer(to, status, headers, body.as_bytes())
}

/// The headers of a correct answer to `request` for an object of `size` bytes.
pub(crate) fn range_head(request: &Request, size: usize, etag: &str) -> String {
    let (first, last) = request.range();
    format!("content-range: bytes {first}-{last}/{size}\r\netag: \"{etag}\"\r\n")
}

/// Sends a correct answer (status 206) to a request for a range of `object`.
pub(crate) fn answer_range(to: &mut dyn Wire, request: &Request, object: &[u8], etag: &str) -> Answered {
    let (first, last) = request.range();
    answer(to, "206 Partial Content", &range_head(request, object.len(), etag), &object[first..=last])
}

/// Sends a correct answer to a range request, but only the first `len` bytes of the body.
pub(crate) fn answer_part(to: &mut dyn Wire, request: &Request, object: &[u8], etag: &str, len: usize) -> Answered {
    let (first, last) = request.range();
    let head = range_head(request, object.len(), etag);
    write!(to, "HTTP/1.1 206 Partial Content\r\n{head}content-length: {}\r\n\r\n", last + 1 - first)?;
    to.write_all(&object[first..first + len])?;
    to.flush()
}
