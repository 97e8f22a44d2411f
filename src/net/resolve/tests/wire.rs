//! The resolver over real sockets: truncation, fail-over, spoilt answers, against a server of the test's own.
//! Must not ask any server but that one.
//! Called by the test run.

use std::net::SocketAddr;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};

use super::stub::{Replies, Stub, answer, message, refusal};
use super::*;

/// Long enough for a busy machine; what must fail is given less.
const PATIENT: Duration = Duration::from_secs(20);

fn over(servers: &[&Stub], timeout: Duration) -> Resolver {
    let servers: Vec<SocketAddr> = servers.iter().map(|stub| stub.address).collect();
    Resolver::new(&settings::Dns {
        servers,
        timeout,
        ..settings()
    })
    .unwrap()
}

async fn addresses(resolver: &Resolver, of: &str, family: Family) -> Result<Vec<String>, ResolveError> {
    let answer = resolver.lookup(&name(of), family, ASKER).await?;
    Ok(answer.addresses.iter().map(ToString::to_string).collect())
}

fn kind(query: &Message) -> RecordType {
    query.queries[0].query_type()
}

fn silent(_: &Message, _: bool) -> Replies {
    Vec::new()
}

fn plain(query: &Message, _: bool) -> Replies {
    let name = query.queries[0].name().to_ascii();
    vec![match kind(query) {
        RecordType::AAAA => answer(query, &[&format!("{name} 300 AAAA 2001:db8::1")]),
        _ => answer(query, &[&format!("{name} 300 A 192.0.2.1")]),
    }]
}

#[tokio::test]
async fn absolute_names_are_asked_once_over_udp() {
    let stub = Stub::start(plain).await;
    let resolver = over(&[&stub], PATIENT);
    assert_eq!(addresses(&resolver, "single", Family::V4).await.unwrap(), ["192.0.2.1"]);
    assert_eq!(
        addresses(&resolver, "a.b.test", Family::V6).await.unwrap(),
        ["2001:db8::1"]
    );
    assert_eq!(
        addresses(&resolver, "a.b.test", Family::V6).await.unwrap(),
        ["2001:db8::1"]
    );
    let asked: Vec<_> = stub
        .asked()
        .into_iter()
        .map(|asked| (asked.name, asked.kind, asked.tcp))
        .collect();
    let expected = [
        ("single.", RecordType::A, false),
        ("a.b.test.", RecordType::AAAA, false),
    ];
    assert_eq!(asked, expected.map(|(name, kind, tcp)| (name.to_owned(), kind, tcp)));
}

#[tokio::test]
async fn a_server_may_have_an_ipv6_address() {
    let stub = Stub::start_on("::1", plain).await;
    assert_eq!(
        addresses(&over(&[&stub], PATIENT), "a.test", Family::V4).await.unwrap(),
        ["192.0.2.1"]
    );
}

#[tokio::test]
async fn aliases_are_followed_and_told() {
    let stub = Stub::start(|query, _| {
        let records = [
            "a.test. 300 CNAME b.test.",
            "b.test. 20 CNAME c.test.",
            "c.test. 300 A 192.0.2.3",
        ];
        vec![answer(query, &records)]
    })
    .await;
    let answer = over(&[&stub], PATIENT)
        .lookup(&name("a.test"), Family::V4, ASKER)
        .await
        .unwrap();
    assert_eq!(*answer.aliases, [name("b.test"), name("c.test")]);
    assert_eq!(answer.addresses[0].to_string(), "192.0.2.3");
    assert_eq!(stub.asked().len(), 1);
}

/// A server that stops in the middle of the aliases is asked for the rest.
#[tokio::test]
async fn aliases_that_the_server_does_not_follow_are_asked_for() {
    let stub = Stub::start(|query, _| {
        vec![match query.queries[0].name().to_ascii().as_str() {
            "a.test." => answer(query, &["a.test. 300 CNAME b.test."]),
            "b.test." => answer(query, &["b.test. 300 A 192.0.2.2"]),
            _ => refusal(query, ResponseCode::Refused, None),
        }]
    })
    .await;
    let answer = over(&[&stub], PATIENT)
        .lookup(&name("a.test"), Family::V4, ASKER)
        .await
        .unwrap();
    assert_eq!(*answer.aliases, [name("b.test")]);
    assert_eq!(answer.addresses[0].to_string(), "192.0.2.2");
    assert_eq!(stub.asked().len(), 2);
}

#[tokio::test]
async fn aliases_without_end_are_given_up() {
    let stub = Stub::start(|query, _| {
        let name = query.queries[0].name().to_ascii();
        vec![answer(query, &[&format!("{name} 300 CNAME x{name}")])]
    })
    .await;
    let error = addresses(&over(&[&stub], PATIENT), "a.test", Family::V4)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("more than 16 aliases"), "{error}");
    assert_eq!(stub.asked().len(), 17);
}

/// D14.
#[tokio::test]
async fn what_servers_refuse_is_told_apart() {
    let stub = Stub::start(|query, _| {
        let name = query.queries[0].name().to_ascii();
        vec![match name.as_str() {
            "nxdomain.test." => refusal(query, ResponseCode::NXDomain, Some(60)),
            "nodata.test." => refusal(query, ResponseCode::NoError, Some(60)),
            "nosoa.test." => refusal(query, ResponseCode::NoError, None),
            "dangling.test." => {
                let alias = ["dangling.test. 300 CNAME gone.test."];
                message(query, ResponseCode::NXDomain, &alias, &["test. 60 SOA 60"])
                    .to_vec()
                    .unwrap()
            }
            "nodata-alias.test." => {
                let alias = ["nodata-alias.test. 300 CNAME b.test."];
                message(query, ResponseCode::NoError, &alias, &["test. 60 SOA 60"])
                    .to_vec()
                    .unwrap()
            }
            "servfail.test." => refusal(query, ResponseCode::ServFail, None),
            "refused.test." => refusal(query, ResponseCode::Refused, None),
            "notimp.test." => refusal(query, ResponseCode::NotImp, None),
            "unknown.test." => refusal(query, ResponseCode::Unknown(3841), None),
            "unrelated.test." => answer(query, &["other.test. 300 A 192.0.2.9"]),
            "wrongtype.test." => answer(query, &["wrongtype.test. 300 AAAA 2001:db8::9"]),
            _ => panic!("{name}"),
        }]
    })
    .await;
    let resolver = over(&[&stub], PATIENT);
    for (name, expected) in [
        ("nxdomain.test", Ok(ResolveError::NotFound)),
        ("dangling.test", Ok(ResolveError::NotFound)),
        ("nodata.test", Ok(ResolveError::NoAddress)),
        ("nosoa.test", Ok(ResolveError::NoAddress)),
        ("nodata-alias.test", Ok(ResolveError::NoAddress)),
        ("servfail.test", Err("\"Server Failure\" (RCODE 2)")),
        ("refused.test", Err("RCODE 5")),
        ("notimp.test", Err("RCODE 4")),
        ("unknown.test", Err("RCODE 3841")),
        ("unrelated.test", Err("about other names")),
        ("wrongtype.test", Err("about other names")),
    ] {
        let error = addresses(&resolver, name, Family::V4).await.unwrap_err();
        match expected {
            Ok(expected) => assert_eq!(error, expected, "{name}"),
            Err(part) => {
                let text = error.to_string();
                assert!(
                    text.contains(part) && text.contains(&stub.address.to_string()),
                    "{name}: {text}"
                );
            }
        }
        assert!(!resolver.servers().are_down(), "{name}: it answered");
    }
    assert_eq!(stub.asked().len(), 11);
}

/// D15.
#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let stub = Stub::start(|query, tcp| {
        if tcp {
            let many: Vec<_> = (1..=200).map(|i| format!("a.test. 300 A 192.0.2.{i}")).collect();
            return vec![answer(query, &many.iter().map(String::as_str).collect::<Vec<_>>())];
        }
        let mut short = message(query, ResponseCode::NoError, &["a.test. 300 A 198.51.100.1"], &[]);
        short.metadata.truncation = true;
        vec![short.to_vec().unwrap()]
    })
    .await;
    let found = addresses(&over(&[&stub], PATIENT), "a.test", Family::V4).await.unwrap();
    assert_eq!((found.len(), found[0].as_str()), (64, "192.0.2.1"));
    assert_eq!(
        stub.asked().iter().map(|asked| asked.tcp).collect::<Vec<_>>(),
        [false, true]
    );
}

/// D16.
#[tokio::test]
async fn forged_answers_are_ignored() {
    let stub = Stub::start(|query, _| {
        let mut wrong_id = message(query, ResponseCode::NoError, &["a.test. 300 A 198.51.100.1"], &[]);
        wrong_id.metadata.id ^= 1;
        let mut wrong_question = message(query, ResponseCode::NoError, &["a.test. 300 A 198.51.100.2"], &[]);
        wrong_question.queries[0].set_name(Name::from_ascii("b.test.").unwrap());
        let no_question = {
            let mut message = message(query, ResponseCode::NoError, &["a.test. 300 A 198.51.100.3"], &[]);
            message.queries.clear();
            message
        };
        let records = [
            "b.test. 300 A 198.51.100.4",
            "a.test. 300 A 192.0.2.1",
            "a.test. 300 AAAA 2001:db8::4",
        ];
        let honest = answer(query, &records);
        let mut replies: Replies = [wrong_id, wrong_question, no_question]
            .iter()
            .map(|m| m.to_vec().unwrap())
            .collect();
        replies.push(vec![0]);
        replies.push(honest);
        replies
    })
    .await;
    assert_eq!(
        addresses(&over(&[&stub], PATIENT), "a.test", Family::V4).await.unwrap(),
        ["192.0.2.1"]
    );
}

/// D17.
#[tokio::test]
async fn malformed_answers_are_failures() {
    let stub = Stub::start(|query, _| {
        let mut bytes = refusal(query, ResponseCode::NoError, None);
        // One answer, whose name is a pointer to itself.
        bytes[7] = 1;
        let here = u8::try_from(bytes.len()).unwrap();
        bytes.extend([0xc0, here, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        vec![bytes]
    })
    .await;
    let error = addresses(&over(&[&stub], PATIENT), "a.test", Family::V4)
        .await
        .unwrap_err();
    assert!(matches!(error, ResolveError::Failed(_)), "{error:?}");
}

#[tokio::test]
async fn silence_is_a_time_out() {
    let stub = Stub::start(silent).await;
    let resolver = over(&[&stub], ms(250));
    let error = addresses(&resolver, "a.test", Family::V4).await.unwrap_err();
    assert_eq!(error, ResolveError::TimedOut);
    assert!(resolver.servers().are_down());
    assert_eq!(stub.asked().len(), 1);
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let lost = std::sync::atomic::AtomicBool::new(false);
    let stub = Stub::start(move |query, tcp| {
        if lost.swap(true, std::sync::atomic::Ordering::Relaxed) {
            plain(query, tcp)
        } else {
            Vec::new()
        }
    })
    .await;
    assert_eq!(
        addresses(&over(&[&stub], PATIENT), "a.test", Family::V4).await.unwrap(),
        ["192.0.2.1"]
    );
    assert_eq!(stub.asked().len(), 2);
}

/// A dead first server costs the first client a quarter of the time-out, and the next ones nothing.
#[tokio::test]
async fn a_silent_server_is_asked_last_from_then_on() {
    let (dead, alive) = (Stub::start(silent).await, Stub::start(plain).await);
    let resolver = over(&[&dead, &alive], Duration::from_secs(4));
    let start = Instant::now();
    assert_eq!(addresses(&resolver, "a.test", Family::V4).await.unwrap(), ["192.0.2.1"]);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let asked = dead.asked().len();
    assert!(asked > 0);
    for number in 0..10 {
        addresses(&resolver, &format!("n{number}.test"), Family::V4)
            .await
            .unwrap();
    }
    assert_eq!((dead.asked().len(), alive.asked().len()), (asked, 11));
    assert!(!resolver.servers().are_down());
}

#[tokio::test]
async fn a_failing_server_is_followed_by_the_next_at_once() {
    let broken = Stub::start(|query, _| vec![refusal(query, ResponseCode::ServFail, None)]).await;
    let alive = Stub::start(plain).await;
    let resolver = over(&[&broken, &alive], PATIENT);
    for number in 0..3 {
        let start = Instant::now();
        addresses(&resolver, &format!("n{number}.test"), Family::V4)
            .await
            .unwrap();
        assert!(start.elapsed() < PATIENT / 4);
    }
    // It answers, so it keeps its place.
    assert_eq!((broken.asked().len(), alive.asked().len()), (3, 3));
}

/// An authoritative "no" of the first server is final.
#[tokio::test]
async fn a_name_that_does_not_exist_is_not_asked_elsewhere() {
    let first = Stub::start(|query, _| vec![refusal(query, ResponseCode::NXDomain, Some(5))]).await;
    let second = Stub::start(plain).await;
    let error = addresses(&over(&[&first, &second], PATIENT), "a.test", Family::V4)
        .await
        .unwrap_err();
    assert_eq!(error, ResolveError::NotFound);
    assert_eq!(second.asked().len(), 0);
}

#[tokio::test]
async fn all_servers_down_says_what_was_learnt() {
    let silent = Stub::start(silent).await;
    let broken = Stub::start(|query, _| vec![refusal(query, ResponseCode::ServFail, None)]).await;
    let error = addresses(&over(&[&silent, &broken], ms(400)), "a.test", Family::V4)
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&broken.address.to_string()), "{error}");
}

/// Many names at once: nothing is refused for want of room in a queue. (Not more than the stub's socket can hold.)
#[tokio::test]
async fn a_burst_of_questions_is_answered() {
    let stub = Stub::start(plain).await;
    let resolver = over(&[&stub], PATIENT);
    let mut lookups = tokio::task::JoinSet::new();
    for number in 0..150 {
        let resolver = resolver.clone();
        let asker = client(number);
        lookups.spawn(async move {
            resolver
                .lookup(&name(&format!("n{number}.test")), Family::V4, asker)
                .await
        });
    }
    while let Some(found) = lookups.join_next().await {
        assert_eq!(found.unwrap().unwrap().addresses[0].to_string(), "192.0.2.1");
    }
}
