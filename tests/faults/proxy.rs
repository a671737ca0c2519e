//! What stands between the server and a service it needs, and behaves as networks do: it cuts, stalls, dawdles, answers
//! for the other side, and changes octets. Streams are handed on as they come, by TCP or by a socket in a folder.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::refusal::{Frames, refused};

#[derive(Clone)]
pub(crate) enum Place {
    Folder(PathBuf),
    Port(SocketAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// At the n-th piece from the client since it was set, counted from 1: the connection ends, and the piece is lost.
    CutBefore(u64),
    /// The same, but the piece has arrived: its answer is lost.
    CutAfter(u64),
    /// An octet of every larger piece from the service is another.
    Flip,
    None,
    /// The HTTP requests with these numbers, counted from 1 since it was set, have this trouble, and no others.
    OfRequests(u64, u64, OfRequest),
    /// The first statement from the n-th piece on is refused by PostgreSQL with an error, and nothing else.
    Refuse(u64),
    /// Each piece takes so much longer.
    Slow(Duration),
    /// Nothing is handed on any more, and nobody is told.
    Stall,
    /// An HTTP service that answers 503 to everything.
    Unavailable,
}

/// What becomes of an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfRequest {
    /// It is done; instead of the answer the connection ends.
    AnswerLost,
    /// The connection ends, and the request is lost.
    Lost,
    /// It stays on its way.
    Stalled,
    /// It is answered with 503.
    Unavailable,
}

pub(crate) struct Proxy {
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    target: Mutex<Place>,
    trouble: Mutex<Trouble>,
    pieces: AtomicU64,
    requests: AtomicU64,
    met: AtomicU64,
    cut: Mutex<CancellationToken>,
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Proxy {
    /// In front of `target`; a socket of PostgreSQL's name in a folder.
    pub(crate) fn in_folder(folder: &std::path::Path, target: Place) -> Self {
        let listener = UnixListener::bind(folder.join(SOCKET)).unwrap();
        let state = State::new(target);
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&shared).serve(Box::new(stream)));
            }
        });
        Self { state, accepting }
    }

    pub(crate) async fn on_port(target: Place) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State::new(target);
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&shared).serve(Box::new(stream)));
            }
        });
        (Self { state, accepting }, address)
    }

    pub(crate) fn set(&self, trouble: Trouble) {
        self.state.pieces.store(0, Ordering::SeqCst);
        self.state.requests.store(0, Ordering::SeqCst);
        self.state.met.store(0, Ordering::SeqCst);
        *self.state.trouble.lock().unwrap() = trouble;
    }

    /// How often the trouble was met since it was set.
    pub(crate) fn met(&self) -> u64 {
        self.state.met.load(Ordering::SeqCst)
    }

    /// How many pieces came from clients since the trouble was set.
    pub(crate) fn pieces(&self) -> u64 {
        self.state.pieces.load(Ordering::SeqCst)
    }

    /// New connections go there; those that are open end.
    pub(crate) fn lead_to(&self, target: Place) {
        *self.state.target.lock().unwrap() = target;
        let open = std::mem::take(&mut *self.state.cut.lock().unwrap());
        open.cancel();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.state.cut.lock().unwrap().cancel();
    }
}

impl State {
    fn new(target: Place) -> Arc<Self> {
        Arc::new(Self {
            target: Mutex::new(target),
            trouble: Mutex::new(Trouble::None),
            pieces: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            met: AtomicU64::new(0),
            cut: Mutex::default(),
        })
    }

    fn trouble(&self) -> Trouble {
        *self.trouble.lock().unwrap()
    }

    async fn serve(self: Arc<Self>, client: Box<dyn Duplex>) {
        let (target, cut) = (self.target.lock().unwrap().clone(), self.cut.lock().unwrap().clone());
        let service: Option<Box<dyn Duplex>> = match target {
            Place::Folder(folder) => match UnixStream::connect(folder.join(SOCKET)).await {
                Ok(stream) => Some(Box::new(stream)),
                Err(_) => None,
            },
            Place::Port(address) => match TcpStream::connect(address).await {
                Ok(stream) => Some(Box::new(stream)),
                Err(_) => None,
            },
        };
        let Some(service) = service else { return };
        let (from_client, to_client) = tokio::io::split(client);
        let (from_service, to_service) = tokio::io::split(service);
        let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
        let no_answer = AtomicBool::new(false);
        tokio::select! {
            () = self.requests(from_client, to_service, Arc::clone(&to_client), &no_answer) => {}
            () = self.answers(from_service, to_client, &no_answer) => {}
            () = cut.cancelled() => {}
        }
    }

    async fn requests(
        &self,
        mut client: impl AsyncRead + Unpin,
        mut service: impl AsyncWrite + Unpin,
        to_client: Arc<tokio::sync::Mutex<impl AsyncWrite + Unpin>>,
        no_answer: &AtomicBool,
    ) {
        let (mut room, mut frames) = (vec![0; ROOM], Frames::default());
        loop {
            let Ok(count @ 1..) = client.read(&mut room).await else { return };
            let piece = &room[..count];
            let begins = frames.begin_with(piece);
            let mut changed = None;
            let number = self.pieces.fetch_add(1, Ordering::SeqCst) + 1;
            let trouble = self.trouble();
            match trouble {
                Trouble::CutBefore(n) if n == number => return self.meet(),
                Trouble::CutAfter(n) if n == number => {
                    self.meet();
                    let _gone = service.write_all(piece).await;
                    // So that it is read, and done, before the connection is gone.
                    return tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Trouble::OfRequests(first, last, of_request) if begins_request(piece) => {
                    if (first..=last).contains(&(self.requests.fetch_add(1, Ordering::SeqCst) + 1)) {
                        match of_request {
                            OfRequest::AnswerLost => {
                                self.meet();
                                no_answer.store(true, Ordering::SeqCst);
                            }
                            OfRequest::Lost => return self.meet(),
                            OfRequest::Stalled => self.stall(trouble).await,
                            OfRequest::Unavailable => return self.answer_503(client, &to_client).await,
                        }
                    }
                }
                Trouble::Unavailable => return self.answer_503(client, &to_client).await,
                Trouble::Refuse(n) if n <= number && begins && self.met.load(Ordering::SeqCst) == 0 => {
                    changed = refused(piece);
                    changed.iter().for_each(|_| self.meet());
                }
                Trouble::Slow(pause) => {
                    self.meet();
                    tokio::time::sleep(pause).await;
                }
                Trouble::Stall => self.stall(trouble).await,
                Trouble::CutBefore(_)
                | Trouble::CutAfter(_)
                | Trouble::Flip
                | Trouble::None
                | Trouble::OfRequests(..)
                | Trouble::Refuse(_) => {}
            }
            if service.write_all(changed.as_deref().unwrap_or(piece)).await.is_err() {
                return;
            }
        }
    }

    /// What is still on its way is read, so that the answer is not lost with it.
    async fn answer_503(
        &self,
        mut client: impl AsyncRead + Unpin,
        to_client: &tokio::sync::Mutex<impl AsyncWrite + Unpin>,
    ) {
        self.meet();
        let said = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _gone = to_client.lock().await.write_all(said).await;
        let mut room = vec![0; ROOM];
        while let Ok(1..) = client.read(&mut room).await {}
    }

    async fn answers(
        &self,
        mut service: impl AsyncRead + Unpin,
        client: Arc<tokio::sync::Mutex<impl AsyncWrite + Unpin>>,
        no_answer: &AtomicBool,
    ) {
        let mut room = vec![0; ROOM];
        loop {
            let Ok(count @ 1..) = service.read(&mut room).await else { return };
            if no_answer.load(Ordering::SeqCst) {
                return;
            }
            let piece = &mut room[..count];
            let trouble = self.trouble();
            match trouble {
                // Behind the header of an answer, which is shorter.
                Trouble::Flip if count > 4096 => {
                    self.meet();
                    piece[count - 1] ^= 1;
                }
                Trouble::Stall => self.stall(trouble).await,
                Trouble::CutBefore(_)
                | Trouble::CutAfter(_)
                | Trouble::Flip
                | Trouble::None
                | Trouble::OfRequests(..)
                | Trouble::Refuse(_)
                | Trouble::Slow(_)
                | Trouble::Unavailable => {}
            }
            if client.lock().await.write_all(piece).await.is_err() {
                return;
            }
        }
    }

    fn meet(&self) {
        self.met.fetch_add(1, Ordering::SeqCst);
    }

    /// Until the trouble is another.
    async fn stall(&self, trouble: Trouble) {
        self.meet();
        while self.trouble() == trouble {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A client of HTTP waits for the answer: a request begins where a piece does.
fn begins_request(piece: &[u8]) -> bool {
    ["DELETE /", "GET /", "HEAD /", "POST /", "PUT /"]
        .iter()
        .any(|method| piece.starts_with(method.as_bytes()))
}

const ROOM: usize = 64 * 1024;
const SOCKET: &str = ".s.PGSQL.5432";
