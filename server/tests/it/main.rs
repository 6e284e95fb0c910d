//! The server from outside: its router in process, and the real binary. One binary, so that it is linked once.

mod processes;
mod router;
