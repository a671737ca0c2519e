//! A scratch store with one account, on either engine, for the tests and the benchmark of the store: its own database,
//! folder and keys, and a second connection to the database that stands for another process.

#![allow(clippy::allow_attributes, dead_code, reason = "each program that includes this uses its own part")]
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

#[path = "postgres.rs"]
pub(crate) mod postgres;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions, FromRow, PgConnection, Row};
use syncmx::address::{Asked, EmailAddress, Mailbox, NamedAddress, ReplyMailbox, ServedDomains, UserMailbox};
use syncmx::auth::{AlignedBy, Alignment, Verdict};
use syncmx::config::{self, BlobsUrl, StoreUrl};
use syncmx::filing::Step;
use syncmx::id::{AccountId, ContactId, ConversationId, DeliveryId, UserId};
use syncmx::keys::Keys;
use syncmx::message::{Email, Frame, From, Kind, Protection, ReplyText};
use syncmx::smtp::{Client, Envelope, ForwardPath, Recipient};
use syncmx::store::seal::Vault;
use syncmx::store::{Filed, Store, StoreError, Submission};
use syncmx::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Sqlite,
}

impl Engine {
    /// Whether it is installed; says so if not.
    pub(crate) fn is_there(self) -> bool {
        match self {
            Self::Postgres => postgres::cluster().is_some(),
            Self::Sqlite => true,
        }
    }
}

#[allow(unused_macros, reason = "as above")]
/// Each of these tests on each engine: modules `sqlite` and `postgres`.
macro_rules! on_both_engines {
    ($($name:ident,)+) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Engine::Sqlite).await;
            })+
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                if super::Engine::Postgres.is_there() {
                    super::$name(super::Engine::Postgres).await;
                }
            })+
        }
    };
}
#[allow(unused_imports, reason = "as above")]
pub(crate) use on_both_engines;

/// A connection that is not the store's.
pub(crate) enum Other {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// The same with either connection.
macro_rules! on {
    ($other:expr, |$connection:ident| $done:expr) => {
        match $other {
            $crate::store_world::Other::Postgres($connection) => $done,
            $crate::store_world::Other::Sqlite($connection) => $done,
        }
    };
}
#[allow(unused_imports, reason = "as above")]
pub(crate) use on;

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) settings: config::Store,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) keys: Arc<Keys>,
    pub(crate) store: Store,
    pub(crate) other: Other,
    pub(crate) account: AccountId,
    pub(crate) user: UserId,
}

pub(crate) const SYNC_LOCAL: &str = "drweber-0123456789ab";
pub(crate) const USER: &str = "weber@praxis.test";

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(Engine::Sqlite).await
    }

    pub(crate) async fn on(engine: Engine) -> Self {
        let (folder, settings) = place(engine).await;
        Self::in_place(engine, folder, settings).await
    }

    /// In a database that is empty, or of an earlier version.
    pub(crate) async fn in_place(engine: Engine, folder: tempfile::TempDir, settings: config::Store) -> Self {
        let keys = Arc::new(Keys::generate().unwrap());
        Store::migrate(&settings).await.unwrap();
        let store = Store::open(&settings, keys.clone(), served()).await.unwrap();
        let other = beside(&settings.url).await;
        let (account, user) = (AccountId::generate(), UserId::generate());
        let mut world = Self { engine, settings, folder, keys, store, other, account, user };
        world.add_account(account, user, SYNC_LOCAL, USER).await;
        world
    }

    pub(crate) async fn add_account(&mut self, account: AccountId, user: UserId, local: &str, email: &str) {
        let wrapped = Vault::new(self.keys.master.clone()).new_account_key(account).unwrap();
        on!(&mut self.other, |other| sqlx::query(
            "INSERT INTO accounts (account_id, name, settings, wrapped_key, created_at) VALUES ($1, 'Praxis', '{}', $2, 0)"
        )
            .bind(account.uuid())
            .bind(wrapped)
            .execute(other)
            .await
            .map(|_| ()))
        .unwrap();
        self.add_user(account, user, local, email).await;
    }

    pub(crate) async fn add_user(&mut self, account: AccountId, user: UserId, local: &str, email: &str) {
        on!(&mut self.other, |other| sqlx::query(
            "INSERT INTO users VALUES ($1, $2, 'Dr. Weber', 'staff', 'on', $3, 0)"
        )
        .bind(account.uuid())
        .bind(user.uuid())
        .bind(local)
        .execute(other)
        .await
        .map(|_| ()))
        .unwrap();
        on!(&mut self.other, |other| sqlx::query(
            "INSERT INTO sync_addresses VALUES ($1, $2, $3, 'active', 0)"
        )
        .bind(account.uuid())
        .bind(local)
        .bind(user.uuid())
        .execute(other)
        .await
        .map(|_| ()))
        .unwrap();
        on!(&mut self.other, |other| sqlx::query("INSERT INTO user_emails VALUES ($1, $2, $3, $2, 1)")
            .bind(account.uuid())
            .bind(email)
            .bind(user.uuid())
            .execute(other)
            .await
            .map(|_| ()))
        .unwrap();
    }

    pub(crate) async fn add_contact(&mut self, email: &str) -> ContactId {
        let contact = ContactId::generate();
        on!(&mut self.other, |other| sqlx::query(
            "INSERT INTO contacts VALUES ($1, $2, 'Ana', 'ana', $3, $3, '[]', NULL, 'api', 0)"
        )
        .bind(self.account.uuid())
        .bind(contact.uuid())
        .bind(email)
        .execute(other)
        .await
        .map(|_| ()))
        .unwrap();
        contact
    }

    /// What another process does.
    pub(crate) async fn run(&mut self, sql: &'static str) {
        on!(&mut self.other, |other| sqlx::query(sql).execute(other).await.map(|_| ())).unwrap();
    }

    pub(crate) async fn count(&mut self, sql: &'static str) -> i64 {
        on!(&mut self.other, |other| sqlx::query(sql).fetch_one(other).await.unwrap().get(0))
    }

    pub(crate) async fn text(&mut self, sql: &'static str) -> String {
        on!(&mut self.other, |other| sqlx::query(sql).fetch_one(other).await.unwrap().get(0))
    }

    /// The first column of every row, between spaces.
    pub(crate) async fn words(&mut self, sql: &'static str) -> String {
        let rows: Vec<(String,)> = self.rows(sql).await;
        rows.into_iter().map(|(word,)| word).collect::<Vec<_>>().join(" ")
    }

    pub(crate) async fn rows<T>(&mut self, sql: &'static str) -> Vec<T>
    where
        T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        on!(&mut self.other, |other| sqlx::query_as(sql).fetch_all(other).await).unwrap()
    }

    /// Keeps the store's writers from writing to the account, as another process does that writes itself.
    pub(crate) async fn hold_up(&mut self) {
        match &mut self.other {
            Other::Postgres(other) => {
                sqlx::query("BEGIN").execute(&mut *other).await.unwrap();
                let key = self.account.uuid().as_u64_pair().1.cast_signed();
                sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(key).execute(other).await.unwrap();
            }
            Other::Sqlite(other) => {
                sqlx::query("BEGIN IMMEDIATE").execute(other).await.unwrap();
            }
        }
    }

    /// As another node does when it has changed addresses. SQLite's commits show by themselves.
    pub(crate) async fn other_node_announces(&mut self) {
        if self.engine == Engine::Postgres {
            self.run("NOTIFY syncmx_changed").await;
        }
    }

    /// Lets them go on.
    pub(crate) async fn let_go(&mut self) {
        self.run("COMMIT").await;
    }

    pub(crate) fn sync_mailbox(&self) -> Mailbox {
        Mailbox::Sync(UserMailbox { account: self.account, user: self.user })
    }

    pub(crate) fn auto_mailbox(&self) -> Mailbox {
        Mailbox::Auto(UserMailbox { account: self.account, user: self.user })
    }

    pub(crate) fn reply_mailbox(&self, conversation: ConversationId) -> Mailbox {
        Mailbox::Reply(ReplyMailbox { account: self.account, conversation })
    }

    /// A submission of this email to the sync address.
    pub(crate) fn submit(&self, email: Email) -> Submission {
        submission(email, vec![self.sync_mailbox()], b"Subject: raw\r\n\r\nraw\r\n".to_vec())
    }

    pub(crate) async fn file(&self, email: Email) -> Result<Filed, StoreError> {
        self.store.file(self.submit(email)).await
    }

    pub(crate) async fn reopen(&mut self) {
        self.store = Store::open(&self.settings, self.keys.clone(), served()).await.unwrap();
    }
}

pub(crate) async fn beside(url: &StoreUrl) -> Other {
    match url {
        StoreUrl::Postgres(url) => Other::Postgres(postgres::connect(&url.to_string()).await),
        StoreUrl::Sqlite(path) => {
            let options =
                SqliteConnectOptions::new().filename(path).foreign_keys(true).create_if_missing(true);
            Other::Sqlite(options.connect().await.unwrap())
        }
    }
}

/// A folder and a fresh, empty database.
pub(crate) async fn place(engine: Engine) -> (tempfile::TempDir, config::Store) {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    if engine == Engine::Postgres {
        settings.url = StoreUrl::Postgres(postgres::cluster().unwrap().database().await.parse().unwrap());
    }
    (folder, settings)
}

/// With SQLite.
pub(crate) fn settings(folder: &tempfile::TempDir) -> config::Store {
    config::Store {
        url: StoreUrl::Sqlite(folder.path().join("syncmx.db")),
        blobs: BlobsUrl::Folder(blob_folder(folder)),
        seal_rows: false,
    }
}

pub(crate) fn blob_folder(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("blobs")
}

/// Octets that do not compress.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(size)
    .collect()
}

pub(crate) fn blob_files(world: &World) -> Vec<PathBuf> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, files) } else { files.push(path) }
        }
    }
    let mut files = Vec::new();
    walk(&blob_folder(&world.folder), &mut files);
    files
}

/// As if it had been written longer ago than an import or a filing takes: over an hour.
pub(crate) fn age(path: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(3601);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
}

pub(crate) fn served() -> ServedDomains {
    ServedDomains::new(vec!["sync.example.test".to_owned()], vec!["reply.example.test".to_owned()])
}

pub(crate) fn ask(address: &str) -> Asked {
    served().classify(&ForwardPath::Address(EmailAddress::parse(address).unwrap()))
}

pub(crate) fn named(address: &str) -> NamedAddress {
    NamedAddress { name: None, address: EmailAddress::parse(address).unwrap() }
}

/// A plain mail; its digest follows from its Message-ID.
pub(crate) fn email(id: &str, from: &str, to: &[&str]) -> Email {
    let mut digest = [0; 32];
    digest.iter_mut().zip(id.bytes()).for_each(|(octet, byte)| *octet = byte);
    Email {
        from: From::One(named(from)),
        to: to.iter().map(|to| named(to)).collect(),
        cc: Vec::new(),
        reply_to: Vec::new(),
        subject: format!("About {id}"),
        date: None,
        message_id_header: Some(id.to_owned()),
        in_reply_to: Vec::new(),
        references: Vec::new(),
        thread_index: None,
        text: "The whole text".into(),
        reply: ReplyText { new_text: "The new text".into(), quoted: None, signature: None },
        has_html: false,
        remote_content: 0,
        attachments: Vec::new(),
        kind: Kind::Mail,
        forwarded: None,
        journal: None,
        report: None,
        meeting: None,
        is_list: false,
        is_bulk: false,
        received_fields: 1,
        protection: Protection::default(),
        repeated_fields: Vec::new(),
        doubled_frame: None,
        frame: Frame::Plain,
        has_loop_header: false,
        digest,
        problems: Vec::new(),
    }
}

pub(crate) fn answer_to(id: &str, email: Email) -> Email {
    Email { in_reply_to: vec![id.to_owned()], references: vec![id.to_owned()], ..email }
}

pub(crate) fn aligned(email: &Email) -> Verdict {
    let domain = email.from.address().map_or("none.test", EmailAddress::domain).to_owned();
    Verdict { alignment: Alignment::Aligned { by: AlignedBy::Dkim, domain }, ..Verdict::unchecked() }
}

pub(crate) fn client() -> Client {
    Client {
        ip: "192.0.2.1".parse().unwrap(),
        helo: "mail.praxis.test".to_owned(),
        is_esmtp: true,
        tls: Some("TLSv1.3".to_owned()),
    }
}

pub(crate) fn submission(email: Email, mailboxes: Vec<Mailbox>, raw: Vec<u8>) -> Submission {
    let verdict = aligned(&email);
    let recipients: Vec<Recipient> = mailboxes
        .into_iter()
        .map(|mailbox| Recipient {
            path: ForwardPath::Address(
                EmailAddress::parse(&format!("{SYNC_LOCAL}@sync.example.test")).unwrap(),
            ),
            mailbox,
        })
        .collect();
    Submission {
        received_at: Timestamp::from_millis(1_795_315_445_120),
        deliveries: recipients.iter().map(|_| DeliveryId::generate()).collect(),
        envelope: Arc::new(Envelope {
            client: client(),
            reverse_path: email.from.address().cloned(),
            recipients,
            smtputf8: false,
            requiretls: false,
            defect: None,
            received_octets: 0,
        }),
        verdict: Arc::new(verdict),
        email: Arc::new(email),
        size_bytes: raw.len() as u64,
        raw: Bytes::from(raw),
        steps: vec![Step { rule: "SMTP", said: "from weber@praxis.test over TLS".into(), took_us: 7 }],
    }
}
