//! One connection: does the steps of a [`Session`] on a socket, one at a time.
//!
//! Promises that every wait for the client and for the handler ends (a half command does not prolong it, and stress
//! shortens those that have begun), that each transaction and each session has an end, that the socket is not read
//! while a question is open, and that an idle connection holds no buffer. Decides nothing.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::smtp::proxy::Network;
use crate::smtp::session::{CloseReason, Load, Room, Session, Stage, Step};
use crate::smtp::spool::{Budget, Spool};
use crate::smtp::switch::{RoomSwitch, SettingsSwitch};
use crate::smtp::throttle::{Standing, Throttle};
use crate::smtp::tls::{self, Certificates};
use crate::smtp::{Envelope, ForwardPath, Handler, Hindrance, RecipientAnswer, Reply, Unserved, reply};

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Shared<H> {
    pub(super) budget: Arc<Budget>,
    pub(super) busyness: Busyness,
    pub(super) certificates: Certificates,
    pub(super) handler: Arc<H>,
    pub(super) patience: Patience,
    /// Networks that are not served.
    pub(super) refused: Vec<Network>,
    pub(super) room: RoomSwitch,
    pub(super) settings: SettingsSwitch,
    /// The grace period of a server that stops is nearly over.
    pub(super) nearly_over: CancellationToken,
    pub(super) shutdown: CancellationToken,
    pub(super) throttle: Arc<Throttle>,
}

impl<H> Shared<H> {
    /// For a client there.
    fn room(&self, ip: IpAddr) -> Room {
        if self.budget.is_low_for(ip) { Room::Scarce } else { self.room.current() }
    }

    /// For those who are connected: who holds a body and does nothing keeps others out as well as who holds a seat.
    fn load(&self) -> Load {
        if self.budget.is_low() { Load::Stressed } else { self.busyness.load() }
    }

    /// What is left of a wait now.
    fn shrunk(&self, wait: Duration) -> Duration {
        match self.load() {
            Load::Calm => wait,
            Load::Stressed => wait.min(self.patience.stressed),
        }
    }

    /// What is left of the time for a transaction or a session now.
    fn span(&self, span: Duration) -> Duration {
        match self.load() {
            Load::Calm => span,
            Load::Stressed => span / STRESSED_SPAN_DIVISOR,
        }
    }

    /// Waits so long for what a client does, and less once there is stress; none if that was not enough.
    async fn wait_for<T>(&self, wait: Duration, done: impl Future<Output = T>) -> Option<T> {
        let began = Instant::now();
        let mut done = pin!(done);
        loop {
            let (ends, look) = (began + self.shrunk(wait), Instant::now() + self.patience.stress_look);
            match timeout_at(ends.min(look), &mut done).await {
                Ok(done) => return Some(done),
                Err(_) if ends <= look => return None,
                Err(_) => {}
            }
        }
    }

    /// Whether the client may begin with TLS.
    fn tls_room(&self, session: &Session) -> Room {
        let is_in_envelope = matches!(session.stage(), Stage::Envelope | Stage::NoTransaction);
        // Asked only while the client may say STARTTLS.
        if !is_in_envelope || session.client().tls.is_some() {
            return Room::Enough;
        }
        match self.throttle.handshakes(session.client().ip, self.load()) {
            Standing::Fine => Room::Enough,
            Standing::Spent | Standing::SpentByNeighbours => Room::Scarce,
        }
    }
}

/// How many seats are taken, and how many there are.
#[derive(Debug)]
pub(super) struct Busyness {
    pub(super) seats: Arc<Semaphore>,
    pub(super) max_connections: usize,
}

impl Busyness {
    /// Nine of ten seats taken is stress.
    pub(super) fn load(&self) -> Load {
        let free = self.seats.available_permits();
        if free.saturating_mul(10) < self.max_connections { Load::Stressed } else { Load::Calm }
    }
}

/// How long we wait for what is not the client's next words.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a body to begin to flow; from then on it must keep [`Self::body_octets_per_second`]. What comes faster is
    /// worth no more than as much again.
    pub body_grace: Duration,
    /// See there. A client that is slower all in all is closed, however regularly it drips.
    pub body_octets_per_second: u32,
    /// Before the answer to each mistake after the fifth.
    pub error_pause: Duration,
    /// For sessions to end once the server stops; then they are cut off.
    pub grace: Duration,
    /// For a client to talk before our banner, which is the mark of a machine that does not listen.
    pub greeting: Duration,
    /// The same for one of this machine or of a private network.
    pub greeting_nearby: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the client's FIN after we have closed.
    pub linger: Duration,
    /// For the fate of a message; RFC 5321 section 4.5.3.2.6 gives us ten minutes, real clients less.
    pub message: Duration,
    /// For the header of the PROXY protocol.
    pub proxy_header: Duration,
    /// For the answer to a recipient.
    pub recipient: Duration,
    /// For a session as a whole. Only a message that is coming in then may still come in.
    pub session: Duration,
    /// What is left of any wait for the client while the server is busy (rows D21, X7: with [`Self::stress_look`], all
    /// are gone within half a minute).
    pub stressed: Duration,
    /// How often who waits looks whether the server has become busy.
    pub stress_look: Duration,
    /// From MAIL to the last octet of the message.
    pub transaction: Duration,
    /// For the client to take what we send.
    pub write: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            body_grace: Duration::from_secs(60),
            body_octets_per_second: 4096,
            error_pause: Duration::from_secs(1),
            grace: Duration::from_secs(20),
            greeting: Duration::from_millis(200),
            greeting_nearby: Duration::ZERO,
            handshake: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            message: Duration::from_secs(60),
            proxy_header: Duration::from_secs(5),
            recipient: Duration::from_millis(4_500),
            session: Duration::from_secs(2 * 60 * 60),
            stressed: Duration::from_secs(25),
            stress_look: Duration::from_secs(3),
            transaction: Duration::from_secs(60 * 60),
            write: Duration::from_secs(60),
        }
    }
}

impl Patience {
    /// Row A4. Machines of our own are known to listen, and are not made to wait.
    fn before_greeting(&self, ip: IpAddr) -> Duration {
        let is_nearby = match ip {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        };
        if is_nearby { self.greeting_nearby } else { self.greeting }
    }
}

/// Serves one connection to its end. `early` is what the client said before it could have seen anything.
pub(super) async fn run<H: Handler>(stream: TcpStream, ip: IpAddr, early: Early, shared: Arc<Shared<H>>) {
    metrics::counter!("syncmx_smtp_connections_total").increment(1);
    let open = OpenGauge::new();
    let mut session = Session::new(shared.settings.current(), ip);
    if early == Early::Talk || has_talked_early(&stream, shared.patience.before_greeting(ip)).await {
        session.talked_early();
    } else if shared.refused.iter().any(|network| network.contains(ip)) {
        session.refuse_service();
    }
    hold_to_its_end(stream, session, &shared).await;
    drop(open);
}

/// Counts how it ends.
async fn hold_to_its_end<S: AsyncRead + AsyncWrite + Unpin, H: Handler>(
    stream: S,
    session: Session,
    shared: &Shared<H>,
) {
    match in_clear(stream, session, shared).await {
        Ok(end) => {
            let reason = end.map_or("peer_closed", name_of);
            metrics::counter!("syncmx_smtp_closed_total", "reason" => reason).increment(1);
            tracing::debug!(reason, "session closed");
        }
        Err(broken) => {
            let reason = broken.name();
            metrics::counter!("syncmx_smtp_closed_total", "reason" => reason).increment(1);
            tracing::debug!(reason, error = &broken as &dyn std::error::Error, "session broken off");
        }
    }
}

/// Whether the client has spoken out of turn already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Early {
    Silence,
    Talk,
}

/// Whether the client speaks within that time (row A4). Nothing is read.
async fn has_talked_early(stream: &TcpStream, patience: Duration) -> bool {
    let has_bytes = || {
        let mut octet = [MaybeUninit::uninit()];
        matches!(SockRef::from(stream).peek(&mut octet), Ok(1..))
    };
    if !has_bytes() && !patience.is_zero() {
        // Readable also when it has gone, which is no talk.
        let _readable = timeout(patience, stream.readable()).await;
        return has_bytes();
    }
    has_bytes()
}

/// Why the session ended; none if the client went first.
type End = Option<CloseReason>;

/// Why a session was broken off without a word (row B9: counted by reason).
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the TLS handshake took too long")]
    HandshakeTimedOut,
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the client takes nothing of what we send")]
    WriteTimedOut,
}

impl Broken {
    fn name(&self) -> &'static str {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match self {
            Self::Handshake(_) => "handshake_failed",
            Self::HandshakeTimedOut => "handshake_timed_out",
            Self::Io(error) if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) => {
                "reset"
            }
            // Inside TLS: it has gone without a close_notify.
            Self::Io(error) if error.kind() == UnexpectedEof => "peer_closed",
            Self::Io(_) => "io_error",
            Self::WriteTimedOut => "write_timed_out",
        }
    }
}

/// Where a conversation stops on this stream.
enum Stop {
    End(End),
    StartTls,
}

async fn in_clear<S: AsyncRead + AsyncWrite + Unpin, H: Handler>(
    stream: S,
    session: Session,
    shared: &Shared<H>,
) -> Result<End, Broken> {
    let mut conversation = Conversation::new(stream, session, shared);
    match conversation.hold().await? {
        Stop::End(end) => Ok(end),
        Stop::StartTls => {
            let Conversation { stream, session, .. } = conversation;
            // Boxed, so that a session in clear does not carry the size of one in TLS.
            Box::pin(in_tls(stream, session, shared)).await
        }
    }
}

async fn in_tls<S: AsyncRead + AsyncWrite + Unpin, H: Handler>(
    stream: S,
    mut session: Session,
    shared: &Shared<H>,
) -> Result<End, Broken> {
    let handshake = shared.certificates.acceptor().accept(stream);
    let shaken = shared.wait_for(shared.patience.handshake, handshake).await;
    let stream = shaken.ok_or(Broken::HandshakeTimedOut)?.map_err(Broken::Handshake)?;
    session.tls_started(tls::describe(stream.get_ref().1));
    metrics::counter!("syncmx_smtp_tls_handshakes_total").increment(1);
    match Conversation::new(stream, session, shared).hold().await? {
        Stop::End(end) => Ok(end),
        // The session never asks for TLS inside TLS.
        Stop::StartTls => Ok(Some(CloseReason::Abandoned)),
    }
}

struct Conversation<'a, S, H> {
    stream: S,
    session: Session,
    spool: Spool,
    shared: &'a Shared<H>,
    waiting: Waiting,
    body: Option<BodyClock>,
    transaction: Begun,
    began: Instant,
    /// Unknown recipients since those of its neighbours have used up the budget of a network (row S15).
    guesses_beyond: u32,
    told: Told,
}

/// Since when the client owes us what.
struct Waiting {
    exchanges: Option<u64>,
    since: Instant,
}

/// The number of the last transaction, and when it began.
struct Begun {
    number: u32,
    at: Instant,
}

/// By when more of a body must come.
#[derive(Clone, Copy, Debug)]
struct BodyClock {
    due: Instant,
    /// [`Session::body_octets`] when it was last looked at.
    octets: u64,
    load: Load,
}

impl BodyClock {
    /// What has come buys the time that it takes at the pace asked for, but never beyond `latest`: a burst at the
    /// beginning does not pay for hours of silence. Stress takes back what was bought before.
    fn count(&mut self, octets: u64, octets_per_second: u32, load: Load, latest: Instant) {
        if octets == self.octets && load == self.load {
            return;
        }
        let nanos = octets.saturating_sub(self.octets).saturating_mul(1_000_000_000);
        let earned = Duration::from_nanos(nanos / u64::from(octets_per_second.max(1)));
        *self = Self { due: (self.due + earned).min(latest), octets, load };
    }
}

/// Whether the session knows that the server stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Stopping,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin, H: Handler> Conversation<'a, S, H> {
    fn new(stream: S, session: Session, shared: &'a Shared<H>) -> Self {
        let began = Instant::now();
        Self {
            stream,
            spool: Spool::new(Arc::clone(&shared.budget), session.client().ip),
            shared,
            waiting: Waiting { exchanges: None, since: began },
            body: None,
            transaction: Begun { number: session.mails(), at: began },
            began,
            guesses_beyond: 0,
            told: Told::Nothing,
            session,
        }
    }

    async fn hold(&mut self) -> Result<Stop, Broken> {
        loop {
            match self.session.next_step() {
                Step::Append(bytes) => {
                    let began = Instant::now();
                    if let Err(error) = self.spool.append(&bytes).await {
                        tracing::warn!(%error, "message body cannot be kept");
                        self.session.refuse_body(reply::INSUFFICIENT_STORAGE);
                    }
                    // A disk that is slow is no sender that is.
                    if let Some(body) = &mut self.body {
                        body.due += began.elapsed();
                    }
                }
                Step::AskMessage(envelope) => {
                    let answer = self.ask_message(*envelope).await;
                    if answer.code < 300 {
                        // Each mail that is taken may have had its stale recipient.
                        self.guesses_beyond = 0;
                    }
                    self.session.answer_message(answer);
                }
                Step::AskRecipient(path) => {
                    let answer = self.ask_recipient(&path).await;
                    self.session.answer_recipient(answer);
                }
                Step::AskTrace(unserved) => {
                    let answer = self.ask_trace(*unserved).await;
                    self.session.answer_trace(&answer);
                }
                Step::Close(reason) => {
                    self.close().await;
                    return Ok(Stop::End(Some(reason)));
                }
                Step::DropBody => self.spool.restart(),
                Step::Pause(pause) => tokio::time::sleep(pause).await,
                Step::Receive => {
                    if self.receive().await? == 0 {
                        return Ok(Stop::End(None));
                    }
                }
                Step::Send(bytes) => self.send(&bytes).await?,
                Step::StartBody => {
                    self.spool.restart();
                    self.body = None;
                }
                Step::StartTls => {
                    self.shared.throttle.handshake(self.session.client().ip);
                    return Ok(Stop::StartTls);
                }
            }
        }
    }

    async fn ask_recipient(&mut self, path: &ForwardPath) -> RecipientAnswer {
        let client = self.session.client();
        let noting = self.shared.throttle.noting(client.ip, self.shared.load());
        let question = self.shared.handler.recipient(client, self.session.reverse_path(), path, noting);
        let answer = timeout(self.shared.patience.recipient, question).await.unwrap_or_else(|_| {
            tracing::warn!("recipient look-up took too long");
            RecipientAnswer::Refused(reply::STORE_UNAVAILABLE)
        });
        match answer {
            RecipientAnswer::Refused(refusal) if self.has_spent(&refusal) => {
                RecipientAnswer::Refused(Reply { trace: refusal.trace, ..reply::TOO_MANY_ERRORS })
            }
            RecipientAnswer::Accepted(_) | RecipientAnswer::Refused(_) => answer,
        }
    }

    /// Row S15: a network that tries out addresses has a budget, too; what it asks is answered as ever, but for the
    /// last time. Where its neighbours have used it up, one recipient of a session may still be unknown: there may be others
    /// in the same mail that are not. Who goes on writing to an address that there was, has guessed nothing: its network is
    /// not shut out, but it has no more traces of us than others.
    fn has_spent(&mut self, refusal: &Reply) -> bool {
        match self.standing_after(refusal) {
            Standing::Fine => false,
            Standing::Spent => true,
            Standing::SpentByNeighbours => {
                self.guesses_beyond += 1;
                self.guesses_beyond > 1
            }
        }
    }

    fn standing_after(&self, refusal: &Reply) -> Standing {
        let (throttle, ip) = (&self.shared.throttle, self.session.client().ip);
        if refusal.code < 500 {
            if refusal.trace.is_some() {
                throttle.traces(ip, 1);
            }
            Standing::Fine
        } else if refusal.enhanced == reply::ADDRESS_OFF.enhanced {
            throttle.traces(ip, 1)
        } else {
            throttle.unknown_recipient(ip, self.shared.load())
        }
    }

    /// R3, as far as the network's budget goes: a flood of refusals does not fill the disk with traces.
    async fn ask_trace(&self, unserved: Unserved) -> Reply {
        let (client, reply) = (self.session.client(), unserved.reply.clone());
        if self.shared.throttle.traces(client.ip, unserved.recipients.len()) == Standing::Spent {
            metrics::counter!("syncmx_traces_left_out_total").increment(as_count(unserved.recipients.len()));
            return reply;
        }
        let question = Box::pin(self.shared.handler.unserved(client, unserved));
        timeout(self.shared.patience.recipient, question).await.unwrap_or(reply)
    }

    async fn ask_message(&mut self, envelope: Envelope) -> Reply {
        if envelope.defect.is_some() {
            self.spool.restart();
        }
        let body = match self.spool.finish().await {
            Ok(body) => body,
            Err(error) => {
                tracing::warn!(%error, "message body cannot be kept");
                self.spool.restart();
                let Envelope { reverse_path, recipients, .. } = envelope;
                let recipients = recipients.into_iter().map(|recipient| recipient.path).collect();
                let (cause, reply) = (Hindrance::NoRoom, reply::INSUFFICIENT_STORAGE);
                return self.ask_trace(Unserved { reverse_path, recipients, cause, reply }).await;
            }
        };
        metrics::counter!("syncmx_smtp_message_bytes_total").increment(body.size_bytes());
        // Boxed, so that an idle session does not carry the size of a filing.
        let question = Box::pin(self.shared.handler.message(envelope, body));
        let answer = tokio::select! {
            answer = timeout(self.shared.patience.message, question) => answer.ok(),
            // Row X14: a store that is slow does not hold up the end; the sender comes again.
            () = self.shared.nearly_over.cancelled() => None,
        };
        answer.unwrap_or_else(|| {
            tracing::warn!("filing took too long");
            reply::STORE_UNAVAILABLE
        })
    }

    /// Waits for the client; returns 0 when it is gone.
    async fn receive(&mut self) -> io::Result<usize> {
        let exchanges = self.session.exchanges();
        if self.waiting.exchanges != Some(exchanges) {
            self.waiting = Waiting { exchanges: Some(exchanges), since: Instant::now() };
        }
        loop {
            self.session.set_load(self.shared.load());
            let (ends, look) = (self.ends(), Instant::now() + self.shared.patience.stress_look);
            // A client that never pauses for breath is not waited for, and has its end all the same.
            if Instant::now() >= ends {
                self.session.timed_out();
                return Ok(1);
            }
            let deadline = self.deadline(ends);
            let (session, shared) = (&mut self.session, self.shared);
            let reading = read_some(&mut self.stream, |bytes| {
                session.set_load(shared.load());
                session.set_room(shared.room(session.client().ip));
                let tls_room = shared.tls_room(session);
                session.set_tls_room(tls_room);
                session.receive(bytes);
            });
            tokio::select! {
                biased;
                () = shared.shutdown.cancelled(), if self.told == Told::Nothing => {
                    self.told = Told::Stopping;
                    self.session.shut_down();
                    return Ok(1);
                }
                read = timeout_at(deadline.min(look), reading) => match read {
                    Ok(read) => {
                        let octets = as_count(*read.as_ref().unwrap_or(&0));
                        metrics::counter!("syncmx_smtp_received_bytes_total").increment(octets);
                        return read;
                    }
                    Err(_) if deadline <= look => {
                        self.session.timed_out();
                        return Ok(1);
                    }
                    Err(_) => {}
                },
            }
        }
    }

    /// The end of what the client is doing: its transaction, its session.
    fn ends(&mut self) -> Instant {
        let number = self.session.mails();
        if self.transaction.number != number {
            self.transaction = Begun { number, at: Instant::now() };
        }
        let transaction = self.transaction.at + self.shared.span(self.shared.patience.transaction);
        let session = self.began + self.shared.span(self.shared.patience.session);
        match self.session.stage() {
            Stage::BetweenChunks | Stage::Body => transaction,
            Stage::Envelope => transaction.min(session),
            Stage::NoTransaction | Stage::RefusedChunk => session,
        }
    }

    /// By when the client must have spoken: its next command or block, the pace of a body, and `ends`. The pace is that of
    /// the message as a whole: between its chunks the clock goes on (rows X7, S16). Stress asks for no faster one, since
    /// whoever floods us also takes the line from those who have a mail for us.
    fn deadline(&mut self, ends: Instant) -> Instant {
        let next = (self.waiting.since + self.session.read_timeout()).min(ends);
        if !matches!(self.session.stage(), Stage::BetweenChunks | Stage::Body | Stage::RefusedChunk) {
            self.body = None;
            return next;
        }
        let (now, load, octets) = (Instant::now(), self.shared.load(), self.session.body_octets());
        let Patience { body_grace, body_octets_per_second, .. } = self.shared.patience;
        let grace = self.shared.shrunk(body_grace);
        let latest = match load {
            Load::Calm => now + 2 * grace,
            Load::Stressed => now + grace,
        };
        let body = self.body.get_or_insert(BodyClock { due: now + grace, octets, load });
        body.count(octets, body_octets_per_second, load, latest);
        next.min(body.due)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        count_replies(bytes);
        let sending = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let sent = self.shared.wait_for(self.shared.patience.write, sending).await;
        Ok(sent.ok_or(Broken::WriteTimedOut)??)
    }

    /// Says goodbye and waits for the client's FIN for a moment: closing on unread input would send a RST, and
    /// the client might never see our last reply (row D18).
    async fn close(&mut self) {
        let farewell = async {
            self.stream.shutdown().await?;
            while read_some(&mut self.stream, |_| {}).await? > 0 {}
            io::Result::Ok(())
        };
        // Whatever the client does now is its own affair.
        let _gone = timeout(self.shared.patience.linger, farewell).await;
    }
}

thread_local! {
    /// One buffer for all sessions of a thread: it is filled and emptied within one poll.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_OCTETS].into_boxed_slice());
}

/// Reads once and hands over what came; returns how much it was. Cancelled, it has read nothing.
async fn read_some<S: AsyncRead + Unpin>(stream: &mut S, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
    std::future::poll_fn(|context| {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
            take(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    })
    .await
}

fn count_replies(bytes: &[u8]) {
    metrics::counter!("syncmx_smtp_sent_bytes_total").increment(as_count(bytes.len()));
    for line in bytes.split(|octet| *octet == b'\n') {
        if let Some((code, [b' ', ..])) = line.split_at_checked(3) {
            if matches!(code, b"500" | b"501" | b"502" | b"503" | b"530" | b"555") {
                metrics::counter!("syncmx_smtp_refused_commands_total").increment(1);
            }
            match code {
                // Of every mail: a name that is no text of its own costs less.
                b"250" => metrics::counter!("syncmx_smtp_replies_total", "code" => "250").increment(1),
                b"354" => metrics::counter!("syncmx_smtp_replies_total", "code" => "354").increment(1),
                code => {
                    let code = String::from_utf8_lossy(code).into_owned();
                    metrics::counter!("syncmx_smtp_replies_total", "code" => code).increment(1);
                }
            }
        }
    }
}

fn as_count(octets: usize) -> u64 {
    u64::try_from(octets).unwrap_or(u64::MAX)
}

const fn name_of(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Abandoned => "abandoned",
        CloseReason::Flooded => "flooded",
        CloseReason::Harvesting => "harvesting",
        CloseReason::InputBehindStartTls => "starttls_injected",
        CloseReason::OtherProtocol => "other_protocol",
        CloseReason::Quit => "quit",
        CloseReason::Refused => "refused",
        CloseReason::ShuttingDown => "shutting_down",
        CloseReason::TalkedEarly => "talked_early",
        CloseReason::TimedOut => "timed_out",
        CloseReason::TooManyErrors => "too_many_errors",
        CloseReason::TooManyMails => "too_many_mails",
        CloseReason::UncountedChunk => "uncounted_chunk",
    }
}

/// Counts a connection as open for as long as it lives, a panic included.
struct OpenGauge;

impl OpenGauge {
    fn new() -> Self {
        metrics::gauge!("syncmx_smtp_open_connections").increment(1.0);
        Self
    }
}

impl Drop for OpenGauge {
    fn drop(&mut self) {
        metrics::gauge!("syncmx_smtp_open_connections").decrement(1.0);
    }
}

const READ_OCTETS: usize = 16 * 1024;
/// Under stress a transaction and a session have this part of their time: the largest mail must still come through.
const STRESSED_SPAN_DIVISOR: u32 = 4;

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
