//! Mails are asked for, and nobody comes back.

use testkit::Browser;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::{ORIGIN, Scene, api_key};

pub(super) const FIRES: [&str; 3] = ["NobodyGetsIn", "EveryoneLimited", "RateLimitFlood"];

impl Scene {
    /// How the `n`th person is answered, who asks for a mail.
    async fn asks(&self, n: usize) -> u16 {
        let mut browser = Browser::new(self.servers[n % 2].address, ORIGIN);
        browser.post("/login", &[("email", &format!("person{n}@example.org"))]).await.status.as_u16()
    }

    /// A program asks without a pause, until it was refused so often.
    async fn is_flooded(&self, key: &str, times: usize) {
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n");
        let mut lanes = JoinSet::new();
        for _ in 0..8 {
            let (address, request) = (self.servers[0].address, request.clone());
            lanes.spawn(async move {
                let mut refused = 0;
                while refused < times / 8 {
                    let mut stream = TcpStream::connect(address).await.expect("accepted");
                    stream.write_all(request.as_bytes()).await.expect("taken");
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).await.expect("an answer");
                    refused += usize::from(answer.starts_with("HTTP/1.1 429"));
                }
            });
        }
        lanes.join_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_people_do_not_get_in_is_told() {
    let limits = [("LIMITS", "on"), ("LIMIT_LINK_NETWORK", "1000/1m"), ("LIMIT_LINK_ALL", "30/1h"), ("LIMIT_API_KEY", "120/1m")];
    let mut scene = Scene::with([&limits, &limits]).await;
    let wild = api_key(&scene.database, "runs wild");

    for n in 0..10 {
        assert_eq!(scene.asks(n).await, 303);
    }
    scene.prometheus.sees("sum(auth_magiclink_requests_total{status=\"accepted\"}) == 10").await;
    scene.quiet_but(&[]).await;
    for n in 10..30 {
        assert_eq!(scene.asks(n).await, 303);
    }
    scene.told.of(&FIRES[..1]).await;

    // One mail in two minutes is left, for everybody.
    for n in 30.. {
        if scene.asks(n).await == 429 {
            break;
        }
    }
    scene.told.of(&FIRES[..2]).await;

    scene.is_flooded(&wild, 320).await;
    scene.prometheus.sees("sum(rate_limited_total{limit=\"api_key\"}) >= 320").await;
    scene.quiet_but(&FIRES[..2]).await;
    scene.is_flooded(&wild, 400).await;
    scene.told.of(&FIRES).await;
}
