//! A connection to a mail server that reads only so many bytes for one mail.
//!
//! lettre reads a whole line before it checks its length, so an endless line would fill the memory of the process that serves the pages.
#![expect(deprecated, reason = "the library's own stream is the one way to keep its TLS and count what is read")]

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead as _, AsyncWrite as _};
use lettre::transport::smtp::{
    Error,
    client::{AsyncNetworkStream, AsyncTokioStream, TlsParameters},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Bytes for one mail. Its answers take some hundred, the handshake of STARTTLS some thousand.
const ONE_MAIL: usize = 64 * 1024;

/// What may still be read. Both ends of it count the same bytes.
#[derive(Debug, Clone)]
pub struct ReadLimit(Arc<AtomicUsize>);

impl ReadLimit {
    pub fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(ONE_MAIL)))
    }

    pub fn renew(&self) {
        self.0.store(ONE_MAIL, Relaxed);
    }
}

#[derive(Debug)]
pub struct LimitedStream {
    stream: AsyncNetworkStream,
    left: ReadLimit,
}

impl LimitedStream {
    pub fn new(connected: TcpStream, left: ReadLimit) -> Box<Self> {
        Box::new(Self { stream: AsyncNetworkStream::use_existing_tokio1(Box::new(connected)), left })
    }

    /// TLS from here on.
    pub async fn secure(&mut self, tls: TlsParameters) -> Result<(), Error> {
        self.stream.upgrade_tls(tls).await
    }
}

impl AsyncTokioStream for LimitedStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer.initialize_unfilled()))?;
        let within = self.left.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(read));
        within.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "more than any answer takes"))?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
