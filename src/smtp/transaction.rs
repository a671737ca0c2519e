//! The phases of a session, and what stands between MAIL and the end of the message.
//!
//! A [`Transaction`] is one value: it is made by MAIL and goes as a whole. Bodies are read here to their true end,
//! whatever becomes of them.

use crate::address::EmailAddress;
use crate::smtp::command::Mail;
use crate::smtp::data::{Chunk, ChunkPosition, DataReader, FLOOD_FACTOR, Progress, take_counted};
use crate::smtp::session::{Holding, MAX_MAILS, Session};
use crate::smtp::step::{CloseReason, Room, Step, TlsPolicy};
use crate::smtp::tally::{MAX_RECIPIENTS_OVER, Verdict};
use crate::smtp::{BodyDefect, Envelope, ForwardPath, Hindrance, Recipient, Reply, Unserved, reply};

#[derive(Debug)]
pub(super) enum Phase {
    /// The client has not said who it is.
    Greeting,
    /// It has; no transaction is open.
    Ready,
    /// Its network is not served: QUIT is all there is.
    Refused,
    /// After MAIL.
    InTransaction(Box<Transaction>),
    /// A recipient is being looked up.
    RecipientAsked(Box<Transaction>, ForwardPath),
    /// After 354.
    ReadingData(Box<Transaction>, DataReader),
    /// Behind BDAT.
    ReadingChunk(Box<Transaction>, Chunk),
    /// After a chunk that was not the last; so many octets have come.
    BetweenChunks(Box<Transaction>, u64),
    /// Behind a BDAT that is refused: its octets are no commands. Then the reply, and back to the phase before.
    SwallowingChunk(Box<Self>, u64, Reply),
    /// The handler has the message.
    MessageAsked(Option<BodyDefect>, AfterMessage),
    /// 220 is out, or on its way.
    StartingTls,
    /// The handler is to leave a trace, and then the session ends.
    TraceDue(Box<Unserved>, CloseReason),
    /// The handler leaves a trace of recipients that are not served. Then the reply, and this phase or the end.
    TraceAsked(Box<Self>, Option<CloseReason>),
    /// Nothing more is read.
    Closing(CloseReason),
    /// The driver has been told.
    Closed(CloseReason),
}

impl Phase {
    /// Whether what has come of a message may still be asked for.
    pub(super) const fn wants_body(&self, max_bytes: u64) -> bool {
        match self {
            Self::BetweenChunks(..) => true,
            Self::ReadingChunk(_, chunk) => chunk.total_bytes <= max_bytes,
            Self::ReadingData(_, reader) => reader.defect().is_none(),
            Self::Closed(_)
            | Self::Closing(_)
            | Self::Greeting
            | Self::InTransaction(_)
            | Self::MessageAsked(..)
            | Self::Ready
            | Self::RecipientAsked(..)
            | Self::Refused
            | Self::StartingTls
            | Self::SwallowingChunk(..)
            | Self::TraceAsked(..)
            | Self::TraceDue(..) => false,
        }
    }
}

/// What stands between MAIL and the end of the message.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) reverse_path: Option<EmailAddress>,
    pub(super) smtputf8: bool,
    pub(super) requiretls: bool,
    pub(super) recipients: Vec<Recipient>,
    pub(super) refused_recipients: usize,
    /// Those that were put off because there are so many already.
    pub(super) recipients_over: usize,
    /// Why the body could not be kept, if so: our trouble, not the client's.
    pub(super) refusal: Option<Reply>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum AfterMessage {
    Close(CloseReason),
    Continue,
}

impl Session {
    pub(super) fn mail(&mut self, mail: Mail) -> (Phase, Option<Step>) {
        let Mail { reverse_path, parameters } = mail;
        let is_clear = self.client.tls.is_none();
        let is_ascii = reverse_path.as_ref().is_none_or(|address| address.as_str().is_ascii());
        if is_clear && self.settings.tls == TlsPolicy::Required {
            return self.stay(Phase::Ready, &reply::TLS_REQUIRED);
        }
        if self.mails >= MAX_MAILS {
            return self.leave(&reply::TOO_MANY_MAILS, CloseReason::TooManyMails);
        }
        // RFC 8689 section 2: only offered inside TLS.
        if is_clear && parameters.requiretls {
            return self.stay(Phase::Ready, &reply::UNKNOWN_PARAMETER);
        }
        if !is_ascii && !parameters.smtputf8 {
            return self.stay(Phase::Ready, &reply::SENDER_NEEDS_SMTPUTF8);
        }
        if parameters.size_bytes.is_some_and(|size| size > self.settings.max_message_bytes) {
            return self.stay(Phase::Ready, &reply::TOO_LARGE);
        }
        if self.room == Room::Scarce {
            return self.stay(Phase::Ready, &reply::INSUFFICIENT_STORAGE);
        }
        self.mails += 1;
        self.is_put_off = false;
        let transaction = Transaction {
            reverse_path,
            smtputf8: parameters.smtputf8,
            requiretls: parameters.requiretls,
            recipients: Vec::new(),
            refused_recipients: 0,
            recipients_over: 0,
            refusal: None,
        };
        self.stay(Phase::InTransaction(Box::new(transaction)), &reply::SENDER_OK)
    }

    pub(super) fn recipient(
        &mut self,
        mut transaction: Box<Transaction>,
        path: ForwardPath,
    ) -> (Phase, Option<Step>) {
        let (cause, refusal) = if needs_smtputf8(&path) && !transaction.smtputf8 {
            (Hindrance::NeedsSmtputf8, reply::RECIPIENT_NEEDS_SMTPUTF8)
        } else if transaction.recipients.iter().any(|recipient| recipient.path == path) {
            // Row C20: said twice, delivered once.
            return self.idle(Phase::InTransaction(transaction), &reply::RECIPIENT_OK);
        } else if transaction.recipients.len() >= self.settings.max_recipients {
            transaction.recipients_over += 1;
            let counts =
                transaction.recipients_over == 1 || transaction.recipients_over > MAX_RECIPIENTS_OVER;
            if counts && self.tally.refusal(self.load) == Verdict::Spent {
                let reason = CloseReason::TooManyErrors;
                return self.leave_unserved(*transaction, reply::TOO_MANY_ERRORS, reason);
            }
            (Hindrance::TooManyRecipients, reply::TOO_MANY_RECIPIENTS)
        } else {
            let question = Step::AskRecipient(path.clone());
            return (Phase::RecipientAsked(transaction, path), Some(question));
        };
        transaction.refused_recipients += 1;
        let reverse_path = transaction.reverse_path.clone();
        let unserved = Unserved { reverse_path, recipients: vec![path], cause, reply: refusal };
        let after = Box::new(Phase::InTransaction(transaction));
        (Phase::TraceAsked(after, None), Some(Step::AskTrace(Box::new(unserved))))
    }

    /// A recipient that could not even be read is one that was refused (row D5).
    pub(super) fn refused_recipient(
        &mut self,
        mut transaction: Box<Transaction>,
        refusal: &Reply,
    ) -> (Phase, Option<Step>) {
        transaction.refused_recipients += 1;
        self.idle(Phase::InTransaction(transaction), refusal)
    }

    pub(super) fn data(&mut self, transaction: Box<Transaction>) -> (Phase, Option<Step>) {
        if let Some(refusal) = transaction.without_recipients() {
            return self.stay(Phase::InTransaction(transaction), &refusal);
        }
        self.say(&reply::SEND_DATA);
        let reader = DataReader::new(self.settings.max_message_bytes);
        (Phase::ReadingData(transaction, reader), Some(self.start_body()))
    }

    const fn start_body(&mut self) -> Step {
        self.body = Holding::Something;
        Step::StartBody
    }

    pub(super) fn read_data(
        &mut self,
        transaction: Box<Transaction>,
        mut reader: DataReader,
    ) -> Option<Step> {
        let before = self.input.len();
        let kept = reader.read(&mut self.input);
        self.count_body(before);
        if !kept.is_empty() {
            self.phase = Phase::ReadingData(transaction, reader);
            return Some(Step::Append(kept));
        }
        let (defect, size_bytes) = (reader.defect(), reader.size_bytes());
        match reader.progress(&self.input) {
            Progress::Ended => self.finish(*transaction, size_bytes, defect, AfterMessage::Continue),
            Progress::Flooded => {
                let after = AfterMessage::Close(CloseReason::Flooded);
                self.finish(*transaction, size_bytes, Some(BodyDefect::TooLarge), after)
            }
            Progress::More => self.wait(Phase::ReadingData(transaction, reader), Step::Receive),
        }
    }

    pub(super) fn first_chunk(
        &mut self,
        transaction: Box<Transaction>,
        size_bytes: u64,
        position: ChunkPosition,
    ) -> (Phase, Option<Step>) {
        match transaction.without_recipients() {
            Some(refusal) => self.refuse_chunk(Phase::InTransaction(transaction), size_bytes, refusal),
            None if size_bytes == 0 && position == ChunkPosition::More => {
                let start = self.start_body();
                let (phase, _) = self.idle(Phase::BetweenChunks(transaction, 0), &reply::CHUNK_OK);
                (phase, Some(start))
            }
            None => {
                let start = self.start_body();
                (Phase::ReadingChunk(transaction, Chunk::new(0, size_bytes, position)), Some(start))
            }
        }
    }

    pub(super) fn next_chunk(
        &mut self,
        transaction: Box<Transaction>,
        before_bytes: u64,
        size_bytes: u64,
        position: ChunkPosition,
    ) -> (Phase, Option<Step>) {
        if size_bytes == 0 && position == ChunkPosition::More {
            return self.idle(Phase::BetweenChunks(transaction, before_bytes), &reply::CHUNK_OK);
        }
        (Phase::ReadingChunk(transaction, Chunk::new(before_bytes, size_bytes, position)), None)
    }

    /// So many octets were there before some of them were taken as those of a message.
    fn count_body(&mut self, before: usize) {
        let taken = u64::try_from(before - self.input.len()).unwrap_or(u64::MAX);
        self.body_octets = self.body_octets.saturating_add(taken);
    }

    pub(super) fn read_chunk(&mut self, transaction: Box<Transaction>, mut chunk: Chunk) -> Option<Step> {
        let max_bytes = self.settings.max_message_bytes;
        // An announced flood is not waited for.
        if chunk.total_bytes > max_bytes.saturating_mul(FLOOD_FACTOR) {
            let after = AfterMessage::Close(CloseReason::Flooded);
            return self.finish(*transaction, chunk.total_bytes, Some(BodyDefect::TooLarge), after);
        }
        let is_too_large = chunk.total_bytes > max_bytes;
        let before = self.input.len();
        let octets = chunk.read(&mut self.input);
        self.count_body(before);
        if !octets.is_empty() && !is_too_large {
            self.phase = Phase::ReadingChunk(transaction, chunk);
            return Some(Step::Append(octets));
        }
        if !chunk.is_complete() {
            return self.wait(Phase::ReadingChunk(transaction, chunk), Step::Receive);
        }
        match chunk.position {
            // Later chunks find no transaction and are refused (row D13).
            _ if is_too_large => {
                let defect = Some(BodyDefect::TooLarge);
                self.finish(*transaction, chunk.total_bytes, defect, AfterMessage::Continue)
            }
            ChunkPosition::Last => self.finish(*transaction, chunk.total_bytes, None, AfterMessage::Continue),
            ChunkPosition::More => {
                self.say(&reply::CHUNK_OK);
                self.phase = Phase::BetweenChunks(transaction, chunk.total_bytes);
                None
            }
        }
    }

    /// The octets behind a refused BDAT are read and forgotten; so many that it is a flood, and we close.
    pub(super) fn refuse_chunk(
        &mut self,
        phase: Phase,
        size_bytes: u64,
        refusal: Reply,
    ) -> (Phase, Option<Step>) {
        if size_bytes > self.settings.max_message_bytes.saturating_mul(FLOOD_FACTOR) {
            return self.leave(&refusal, CloseReason::Flooded);
        }
        (Phase::SwallowingChunk(Box::new(phase), size_bytes, refusal), None)
    }

    pub(super) fn swallow(&mut self, before: Box<Phase>, mut remaining: u64, refusal: Reply) -> Option<Step> {
        let unread = self.input.len();
        take_counted(&mut remaining, &mut self.input);
        self.count_body(unread);
        if remaining > 0 {
            return self.wait(Phase::SwallowingChunk(before, remaining, refusal), Step::Receive);
        }
        let (phase, step) = self.stay(*before, &refusal);
        self.phase = phase;
        step
    }

    /// The last byte has come.
    pub(super) fn finish(
        &mut self,
        transaction: Transaction,
        size_bytes: u64,
        defect: Option<BodyDefect>,
        after: AfterMessage,
    ) -> Option<Step> {
        let Transaction { reverse_path, smtputf8, requiretls, recipients, refusal, .. } = transaction;
        let defect = if size_bytes == 0 { Some(BodyDefect::Empty) } else { defect };
        // The driver hands it over, or has dropped it.
        self.body = Holding::Nothing;
        let unasked = refusal.filter(|_| defect.is_none());
        if let Some(reply) = unasked {
            let closing = match after {
                AfterMessage::Close(reason) => Some(reason),
                AfterMessage::Continue => None,
            };
            self.phase = Phase::TraceAsked(Box::new(Phase::Ready), closing);
            let recipients = recipients.into_iter().map(|recipient| recipient.path).collect();
            let unserved = Unserved { reverse_path, recipients, cause: Hindrance::NoRoom, reply };
            return Some(Step::AskTrace(Box::new(unserved)));
        }
        let client = self.client.clone();
        self.phase = Phase::MessageAsked(defect, after);
        let envelope = Envelope {
            client,
            reverse_path,
            recipients,
            smtputf8,
            requiretls,
            defect,
            received_octets: size_bytes,
        };
        Some(Step::AskMessage(Box::new(envelope)))
    }
}

impl Transaction {
    /// What DATA and BDAT are answered when nobody is to get the message.
    fn without_recipients(&self) -> Option<Reply> {
        match (self.recipients.is_empty(), self.refused_recipients) {
            (false, _) => None,
            (true, 0) => Some(reply::BAD_SEQUENCE),
            (true, _) => Some(reply::NO_VALID_RECIPIENTS),
        }
    }
}

fn needs_smtputf8(path: &ForwardPath) -> bool {
    match path {
        ForwardPath::Address(address) => !address.as_str().is_ascii(),
        ForwardPath::Postmaster => false,
    }
}
