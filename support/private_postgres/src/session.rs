//! As much of Postgres's protocol as it takes to ask whether a server is there and to make a role: connect over the
//! socket without a password, run one statement at a time. It stands in for `psql`, which is packaged apart from the
//! server.

use std::{
    io::{self, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

pub(crate) struct Session {
    stream: BufReader<UnixStream>,
}

impl Session {
    pub(crate) fn open(socket: &Path, role: &str, database: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        // A server that hangs must not hang its clients.
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut session = Self { stream: BufReader::new(stream) };
        let mut startup = vec![0, 3, 0, 0]; // protocol 3.0
        for text in ["user", role, "database", database, ""] {
            startup.extend_from_slice(text.as_bytes());
            startup.push(0);
        }
        session.send(&[], &startup)?;
        session.until_ready()?;
        Ok(session)
    }

    /// Runs a statement; returns the number of rows it gave.
    pub(crate) fn query(&mut self, statement: &str) -> io::Result<usize> {
        self.send(b"Q", &[statement.as_bytes(), b"\0"].concat())?;
        self.until_ready()
    }

    fn send(&mut self, kind: &[u8], body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
        self.stream.get_mut().write_all(&[kind, &length.to_be_bytes(), body].concat())
    }

    fn until_ready(&mut self) -> io::Result<usize> {
        let mut rows = 0;
        let mut refusal = None;
        loop {
            let (kind, body) = match self.receive() {
                Ok(message) => message,
                // A refused client is told why, and then sees the connection end.
                Err(error) => return Err(refusal.map_or(error, io::Error::other)),
            };
            match kind {
                b'R' if body != [0; 4] => {
                    return Err(io::Error::other("the server asks for a password"));
                }
                b'D' => rows += 1,
                b'E' => refusal = Some(error_message(&body)),
                b'Z' => return refusal.map_or(Ok(rows), |message| Err(io::Error::other(message))),
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let mut body = Vec::new();
        let expected = u64::from(u32::from_be_bytes(length).saturating_sub(4));
        let received = (&mut self.stream).take(expected).read_to_end(&mut body)?;
        if u64::try_from(received).is_ok_and(|received| received == expected) {
            Ok((kind, body))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

fn error_message(body: &[u8]) -> String {
    let text = body.split(|&byte| byte == 0).find_map(|field| field.strip_prefix(b"M")).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
