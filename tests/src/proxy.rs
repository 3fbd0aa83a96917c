//! A proxy between a client and an HTTP service that counts requests and lets some of them fail by plan. It knows so much
//! of HTTP/1.1 and of Azure Blob Storage as it takes to tell requests apart.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole object in one request.
    PutBlob,
    /// A block of one.
    PutBlock,
    /// The list that makes an object of blocks.
    PutBlockList,
    /// Bytes of an object.
    Get,
    /// Length and the like of an object.
    Head,
    /// A page of a listing.
    List,
    /// An object is to go away.
    Delete,
    /// Anything else.
    Other,
}

/// What befalls a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One bit of its body is another when it arrives.
    DamageBody,
    /// One bit of the body of its answer is.
    DamageAnswer,
    /// It happens, and the connection breaks before the answer is through.
    LoseAnswer,
    /// It does not happen, and the connection breaks.
    LoseRequest,
    /// It is refused with 503 and `Retry-After: 1`.
    Busy,
    /// Nothing ever comes back.
    Silence,
    /// It happens; the answer has the date of an hour ago.
    OldDate,
    /// It happens; the answer has the checksum of other bytes.
    WrongChecksum,
}

/// One request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it was for.
    pub kind: Kind,
    /// Path and query.
    pub target: String,
    /// Its headers as they came, lower case names.
    pub headers: Vec<(String, String)>,
    /// What befell it.
    pub fault: Option<Fault>,
}

struct Planned {
    kind: Kind,
    part_of_target: String,
    fault: Fault,
    times: usize,
}

#[derive(Default)]
struct Shared {
    planned: Mutex<Vec<Planned>>,
    seen: Mutex<Vec<Seen>>,
    /// What bodies of requests may take together; 0: as much as they like.
    bytes_per_second: AtomicU64,
    line: Mutex<()>,
}

/// A running proxy; its threads end with their connections.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy before the service on `port` of 127.0.0.1.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared::default());
        let for_thread = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = for_thread.clone();
                // A broken connection is what this is for.
                std::thread::spawn(move || drop(serve(&shared, client, port)));
            }
        });
        Self { port: own, shared }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets the next `times` requests of a kind, with `part_of_target` in path or query, fail.
    pub fn plan(&self, kind: Kind, part_of_target: &str, fault: Fault, times: usize) {
        lock(&self.shared.planned).push(Planned { kind, part_of_target: part_of_target.to_owned(), fault, times });
    }

    /// Lets the bodies of all requests together pass at a rate; 0: without limit, from the next body on.
    pub fn limit(&self, bytes_per_second: u64) {
        self.shared.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Everything that came.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How many of a kind came with `part_of_target` in path or query.
    pub fn count_at(&self, kind: Kind, part_of_target: &str) -> usize {
        let is_it = |seen: &&Seen| seen.kind == kind && seen.target.contains(part_of_target);
        lock(&self.shared.seen).iter().filter(is_it).count()
    }

    /// How many of a kind came.
    pub fn count(&self, kind: Kind) -> usize {
        lock(&self.shared.seen).iter().filter(|seen| seen.kind == kind).count()
    }

    /// How often a fault befell a request.
    pub fn count_faults(&self, fault: Fault) -> usize {
        lock(&self.shared.seen).iter().filter(|seen| seen.fault == Some(fault)).count()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Takes the time that a body needs at the rate of this proxy; one body after the other.
    fn take_time(&self, bytes: usize) {
        let _line = lock(&self.line);
        let mut left = bytes as f64;
        while left > 0.0 {
            let rate = self.bytes_per_second.load(Ordering::Relaxed);
            if rate == 0 {
                return;
            }
            let step = 0.05_f64;
            crate::services::pause(Duration::from_secs_f64(step.min(left / rate as f64)));
            left -= rate as f64 * step;
        }
    }

    /// The fault that is planned for a request, if any; notes the request.
    fn meet(&self, head: &Head) -> Option<Fault> {
        let (kind, target) = (head.kind(), head.target().to_owned());
        let mut planned = lock(&self.planned);
        let next = planned
            .iter_mut()
            .find(|plan| plan.times > 0 && plan.kind == kind && target.contains(&plan.part_of_target));
        let fault = next.map(|plan| {
            plan.times -= 1;
            plan.fault
        });
        lock(&self.seen).push(Seen { kind, target, headers: head.headers.clone(), fault });
        fault
    }
}

/// First line and headers of a request or answer.
struct Head {
    first: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The next head; `None` at the end of the connection.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut first = String::new();
        if from.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Some(Self { first: first.trim_end().to_owned(), headers }))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(present, _)| present == name).map(|(_, value)| value.as_str())
    }

    fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    fn kind(&self) -> Kind {
        let method = self.first.split(' ').next().unwrap_or_default();
        let query = self.target().split_once('?').map_or("", |(_, query)| query);
        let comp = query.split('&').find_map(|pair| pair.strip_prefix("comp="));
        let is_container = query.contains("restype=container");
        match (method, comp) {
            ("PUT", Some("block")) => Kind::PutBlock,
            ("PUT", Some("blocklist")) => Kind::PutBlockList,
            ("PUT", None) if !is_container => Kind::PutBlob,
            ("GET", Some("list")) => Kind::List,
            ("GET", None) => Kind::Get,
            ("HEAD", None) => Kind::Head,
            ("DELETE", None) if !is_container => Kind::Delete,
            _ => Kind::Other,
        }
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut text = format!("{}\r\n", self.first);
        self.headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        text.push_str("\r\n");
        to.write_all(text.as_bytes())
    }

    /// The body behind this head, as it stands on the line.
    fn body(&self, from: &mut impl BufRead) -> io::Result<Vec<u8>> {
        if self.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return chunks(from);
        }
        let length = self.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        Ok(body)
    }
}

/// All chunks with their framing.
fn chunks(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        all.extend_from_slice(line.as_bytes());
        let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; length + 2];
        from.read_exact(&mut chunk)?;
        all.extend_from_slice(&chunk);
        if length == 0 {
            return Ok(all);
        }
    }
}

/// Passes requests and answers of one connection on, until a fault or an end.
fn serve(shared: &Shared, client: TcpStream, port: u16) -> io::Result<()> {
    let service = TcpStream::connect(("127.0.0.1", port))?;
    client.set_nodelay(true)?;
    service.set_nodelay(true)?;
    let (mut to_client, mut to_service) = (client.try_clone()?, service.try_clone()?);
    let (mut from_client, mut from_service) = (BufReader::new(client), BufReader::new(service));
    while let Some(request) = Head::read(&mut from_client)? {
        let mut body = request.body(&mut from_client)?;
        let fault = shared.meet(&request);
        shared.take_time(body.len());
        match fault {
            Some(Fault::DamageBody) => flip_a_bit(&mut body),
            Some(Fault::LoseRequest) => break,
            Some(Fault::Busy) => {
                to_client.write_all(
                    b"HTTP/1.1 503 Server Busy\r\nRetry-After: 1\r\nx-ms-error-code: ServerBusy\r\nContent-Length: 0\r\n\r\n",
                )?;
                continue;
            }
            Some(Fault::Silence) => {
                // Until the client has enough of it.
                while from_client.read(&mut [0; 1024])? > 0 {}
                break;
            }
            _ => {}
        }
        request.write(&mut to_service)?;
        to_service.write_all(&body)?;
        let Some(mut answer) = Head::read(&mut from_service)? else { break };
        let has_body = !request.first.starts_with("HEAD ");
        let mut body = if has_body { answer.body(&mut from_service)? } else { Vec::new() };
        match fault {
            Some(Fault::LoseAnswer) => break,
            Some(Fault::DamageAnswer) => flip_a_bit(&mut body),
            Some(Fault::OldDate) => {
                answer.headers.retain(|(name, _)| name != "date");
                answer.headers.push(("date".to_owned(), "Tue, 14 Nov 2023 22:13:20 GMT".to_owned()));
            }
            Some(Fault::WrongChecksum) => {
                for (_, value) in answer.headers.iter_mut().filter(|(name, _)| name.ends_with("content-md5")) {
                    *value = "kAFQmDzST7DWlj99KOF/cg==".to_owned();
                }
            }
            _ => {}
        }
        answer.write(&mut to_client)?;
        to_client.write_all(&body)?;
    }
    let _ = to_client.shutdown(Shutdown::Both);
    let _ = to_service.shutdown(Shutdown::Both);
    Ok(())
}

fn flip_a_bit(body: &mut [u8]) {
    let middle = body.len() / 2;
    body[middle] ^= 1;
}
