//! X26: the client is gone between the commit and its 250, and comes again three times.

use std::time::Duration;

use socket2::SockRef;
use syncmx::cli::demo::mailer::{Mailer, Security};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::api::Desk;
use crate::kill::MANY;
use crate::ledger::{End, Mail, Practices, Sent, Settled};
use crate::mail::LENA;
use crate::server::{Server, Setup};
use crate::table::{random_below, report, scaled};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x26_a_250_that_nobody_reads_and_three_retries() {
    let server = Server::start(Setup { environment: vec![MANY.to_owned()], ..Setup::default() }).await;
    let mut practices = Practices::open(&server.api).await;
    practices.begin_round("x26").await;
    let (mut sent, mut filed_unread, mut is_right) = (Vec::new(), 0, true);
    let count = scaled(300, 20);
    for number in 0..count {
        let mail = practices.mail();
        let session = up_to_the_last_dot(&server, &mail).await;
        if number % 2 == 0 {
            // Surely before it is answered, or in the midst of it.
            tokio::time::sleep(Duration::from_millis(random_below(40))).await;
        } else {
            // Surely after the commit.
            is_there(&practices, &mail).await;
        }
        SockRef::from(&session).set_linger(Some(Duration::ZERO)).unwrap();
        drop(session);
        let mut messages = Vec::new();
        for _ in 0..3 {
            let mut session =
                Mailer::connect(server.smtp, LENA.client, LENA.helo, &Security::Plain).await.unwrap();
            let answers =
                session.send(LENA.mail_from, std::slice::from_ref(&mail.rcpt), mail.raw()).await.unwrap();
            is_right &= answers.decisive().code == 250;
            let desk: &Desk = &practices.desks()[mail.desk];
            let delivery = desk.delivery(&answers).await;
            filed_unread += usize::from(messages.is_empty() && delivery["outcome"] == "duplicate");
            messages.push(delivery["message_id"].as_str().unwrap_or("none").to_owned());
        }
        messages.dedup();
        is_right &= messages.len() == 1 && messages[0] != "none";
        sent.push(Sent { mail, end: End::Kept, took: Duration::ZERO });
    }
    is_right &= practices.check(&sent, Settled::Yes).await.is_right();
    let measured = format!(
        "{count} mails, of {filed_unread} the 250 was on its way when the client left; 3 retries each: all 250, the same message, one row"
    );
    report("X26", "commit done, the 250 finds nobody", &measured, is_right && filed_unread > 0);
}

async fn is_there(practices: &Practices, mail: &Mail) {
    for _ in 0..3000 {
        if practices.has(mail).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} is never filed", mail.id);
}

async fn up_to_the_last_dot(server: &Server, mail: &Mail) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(std::net::SocketAddr::new(LENA.client, 0)).unwrap();
    let mut stream: TcpStream = socket.connect(server.smtp).await.unwrap();
    let steps = [
        String::new(),
        format!("EHLO {}\r\n", LENA.helo),
        format!("MAIL FROM:<{}>\r\n", LENA.mail_from),
        format!("RCPT TO:<{}>\r\n", mail.rcpt),
        "DATA\r\n".to_owned(),
    ];
    for step in steps {
        stream.write_all(step.as_bytes()).await.unwrap();
        let mut answer = [0; 4096];
        let count = stream.read(&mut answer).await.unwrap();
        assert!(matches!(answer[0], b'2' | b'3'), "{}", String::from_utf8_lossy(&answer[..count]));
    }
    stream.write_all(mail.raw()).await.unwrap();
    stream.write_all(b".\r\n").await.unwrap();
    stream
}
