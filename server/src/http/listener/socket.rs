//! A socket that notes what arrives, gives up on a client that reads nothing, and closes without a reset.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep, timeout},
};

use super::clock::HeadClock;

pub struct Socket {
    stream: TcpStream,
    clock: HeadClock,
    stall_limit: Duration,
    /// Runs while the client takes nothing of what we have for it.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub fn new(stream: TcpStream, stall_limit: Duration, clock: HeadClock) -> Self {
        Self { stream, clock, stall_limit, stalled: None }
    }

    /// Says that we are done, and drops what the client still sends until it has closed its end, for a while. Closed
    /// with bytes unread, TCP resets the connection, and the client loses the answer it has not read yet: the 413 to an
    /// upload, say.
    pub async fn close(mut self, linger: Duration) {
        let farewell = async {
            self.stream.shutdown().await?;
            let mut sink = [0; 4096];
            while self.stream.read(&mut sink).await? > 0 {}
            io::Result::Ok(())
        };
        // Whichever way it ends, it ends.
        let _ = timeout(linger, farewell).await;
    }

    /// Without this, a client that asks and never reads the answer would hold its connection for ever.
    fn check_progress<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.stall_limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(pin!(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.clock.note_arrival();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.stream).poll_write(context, bytes);
        self.check_progress(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.stream).poll_write_vectored(context, bytes);
        self.check_progress(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(context)
    }
}
