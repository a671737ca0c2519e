//! Sockets that a supervisor opened for us (systemd socket activation, `sd_listen_fds(3)`): it keeps them while we are
//! started again, so that whoever connects meanwhile waits in their queue and nobody is refused (row X15).
//!
//! Those named `http` (`FileDescriptorName=`) serve HTTP, all others SMTP; the addresses of the configuration are not
//! looked at for a kind that was handed over.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

/// What was handed over, and to be taken once in the life of a process.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// For SMTP.
    pub(crate) smtp: Vec<TcpListener>,
    /// For HTTP.
    pub(crate) http: Option<TcpListener>,
}

impl Inherited {
    /// Takes what the environment says is ours; without it, nothing.
    ///
    /// # Errors
    /// If one of them is no listening TCP socket.
    pub(crate) fn take() -> io::Result<Self> {
        let mut handed = ListenFd::from_env();
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut inherited = Self::default();
        for index in 0..handed.len() {
            let name = names.next().unwrap_or_default();
            match handed.take_tcp_listener(index)? {
                Some(listener) if name == "http" => inherited.http = Some(listener),
                Some(listener) => inherited.smtp.push(listener),
                None => {}
            }
        }
        Ok(inherited)
    }
}
