//! Connections to name servers on which a question is sent once.
//!
//! The library sends a UDP question up to three times of its own accord, and nobody counts them (SMTP.md M10). When a
//! question is asked again is decided in `dns`, where it is counted.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use hickory_resolver::config::{ConnectionConfig, ProtocolConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::DnsExchange;
use hickory_resolver::{ConnectionProvider, PoolContext};

/// See the top of the file.
#[derive(Clone, Default)]
pub(super) struct AskOnce(TokioRuntimeProvider);

impl ConnectionProvider for AskOnce {
    type Conn = DnsExchange<TokioRuntimeProvider>;
    type FutureConn = Pin<Box<dyn Future<Output = Result<Self::Conn, NetError>> + Send>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        context: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        if !matches!(config.protocol, ProtocolConfig::Udp) {
            return self.0.new_connection(ip, config, context);
        }
        let connection = UdpClientStream::builder(SocketAddr::new(ip, config.port), self.0.clone())
            .with_timeout(Some(context.options.timeout))
            .with_os_port_selection(context.options.os_port_selection)
            .avoid_local_ports(context.options.avoid_local_udp_ports.clone())
            .with_bind_addr(config.bind_addr)
            .with_max_retries(1)
            .exchange();
        Ok(Box::pin(std::future::ready(Ok(connection))))
    }

    fn runtime_provider(&self) -> &TokioRuntimeProvider {
        &self.0
    }
}
