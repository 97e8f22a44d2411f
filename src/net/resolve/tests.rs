//! The resolver above scripted servers in paused time (here), and over the wire (`wire`).
//! Must not wait for real time where paused time will do.
//! Called by the test run.

mod stub;
mod wire;

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::time::advance;

use super::*;
use crate::net::scripted::{Script, found, ms, name, nothing, resolver, settings, silence};

const A: &str = "192.0.2.1";
const ASKER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_its_ttl() {
    let resolver = resolver(|_, _| (ms(5), found(&[A], 10)));
    let first = resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap();
    assert_eq!((first.cached, first.stale, first.took), (false, false, ms(5)));
    advance(ms(9900)).await;
    let second = resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap();
    assert_eq!((second.cached, second.took), (true, ms(0)));
    assert_eq!(second.addresses, first.addresses);
    assert_eq!(resolver.servers().asked().len(), 1);
    advance(ms(100)).await;
    assert!(
        !resolver
            .lookup(&name("a.test"), Family::V4, ASKER)
            .await
            .unwrap()
            .cached
    );
    assert_eq!(resolver.servers().asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn families_are_asked_for_apart() {
    let resolver = resolver(|_, family| match family {
        Family::V4 => (ms(0), found(&[A], 10)),
        Family::V6 => (ms(0), nothing(ResolveError::NoAddress, 10)),
    });
    assert!(resolver.lookup(&name("a.test"), Family::V4, ASKER).await.is_ok());
    let v6 = resolver.lookup(&name("a.test"), Family::V6, ASKER).await;
    assert_eq!(v6.unwrap_err(), ResolveError::NoAddress);
    assert_eq!(
        resolver.servers().asked(),
        [("a.test".to_owned(), Family::V4), ("a.test".to_owned(), Family::V6)]
    );
}

/// How long something with that TTL is kept, in seconds, found by asking each second.
async fn kept_for(outcome: Result<Found, Trouble>) -> u64 {
    let resolver = resolver(move |_, _| (ms(0), outcome.clone()));
    let _ = resolver.lookup(&name("a.test"), Family::V4, ASKER).await;
    for second in 1.. {
        advance(ms(999)).await;
        let _ = resolver.lookup(&name("a.test"), Family::V4, ASKER).await;
        if resolver.servers().asked().len() > 1 {
            return second - 1;
        }
        advance(ms(1)).await;
        let _ = resolver.lookup(&name("a.test"), Family::V4, ASKER).await;
        if resolver.servers().asked().len() > 1 {
            return second;
        }
    }
    unreachable!()
}

#[tokio::test(start_paused = true)]
async fn ttls_are_bounded() {
    assert_eq!(kept_for(found(&[A], 0)).await, 1, "min_ttl");
    assert_eq!(kept_for(found(&[A], 17)).await, 17);
    assert_eq!(kept_for(found(&[A], 1_000_000)).await, 3600, "max_ttl");
    assert_eq!(kept_for(nothing(ResolveError::NotFound, 0)).await, 1);
    assert_eq!(kept_for(nothing(ResolveError::NotFound, 20)).await, 20);
    assert_eq!(kept_for(nothing(ResolveError::NoAddress, 86_400)).await, 60);
    assert_eq!(kept_for(silence()).await, 1, "failures");
}

#[tokio::test(start_paused = true)]
async fn one_question_serves_everyone_who_asks_meanwhile() {
    let resolver = resolver(|_, _| (ms(100), found(&[A], 10)));
    let mut lookups = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let resolver = resolver.clone();
        lookups.spawn(async move { resolver.lookup(&name("a.test"), Family::V4, ASKER).await });
        tokio::time::sleep(ms(1)).await;
    }
    while let Some(answer) = lookups.join_next().await {
        assert_eq!(answer.unwrap().unwrap().addresses.len(), 1);
    }
    assert_eq!(resolver.servers().asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_panics_gives_its_place_back() {
    let resolver = resolver(|_, _| panic!("on purpose"));
    for _ in 0..=MAX_QUESTIONS_OF_ONE {
        let given_up = resolver.lookup(&name("a.test"), Family::V4, ASKER).await;
        assert_eq!(
            given_up.unwrap_err(),
            ResolveError::Failed("the question was given up".into())
        );
    }
    resolver.servers().now_say(|_, _| (ms(0), found(&[A], 10)));
    assert!(resolver.lookup(&name("a.test"), Family::V4, ASKER).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_question_outlives_the_client_that_asked_first() {
    let resolver = resolver(|_, _| (ms(100), found(&[A], 10)));
    let first = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.lookup(&name("a.test"), Family::V4, ASKER).await }
    });
    tokio::time::sleep(ms(10)).await;
    let second = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.lookup(&name("a.test"), Family::V4, ASKER).await }
    });
    tokio::time::sleep(ms(10)).await;
    first.abort();
    let answer = second.await.unwrap().unwrap();
    assert_eq!(answer.took, ms(90));
    assert_eq!(resolver.servers().asked().len(), 1);
    assert!(resolver.shared.state().flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn expired_answers_stand_in_while_servers_are_down() {
    let resolver = resolver(|_, _| (ms(5), found(&[A], 10)));
    resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap();
    resolver.servers().now_say(|_, _| (ms(2500), silence()));
    advance(ms(12_000)).await;
    // The first client finds out that the servers are gone, at the price of a time-out.
    let answer = resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap();
    assert_eq!((answer.stale, answer.cached, answer.took), (true, true, ms(2500)));
    // For a second nobody is asked again.
    let answer = resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap();
    assert_eq!((answer.stale, answer.took), (true, ms(0)));
    assert_eq!(resolver.servers().asked().len(), 2);
    // From then on the question goes on without the clients.
    resolver.servers().set_down(true);
    advance(ms(1100)).await;
    let answer = resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap();
    assert_eq!((answer.stale, answer.took), (true, STALE_AFTER));
    assert_eq!(resolver.servers().asked().len(), 3);
    // Once they answer, clients get the fresh answer at once.
    tokio::time::sleep(ms(3500)).await;
    resolver.servers().now_say(|_, _| (ms(5), found(&["192.0.2.2"], 10)));
    let answer = resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap();
    assert_eq!((answer.stale, answer.took), (false, ms(5)));
    assert_eq!(answer.addresses[0].to_string(), "192.0.2.2");
}

#[tokio::test(start_paused = true)]
async fn expired_answers_end_too() {
    let resolver = resolver(|_, _| (ms(0), found(&[A], 10)));
    resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap();
    resolver.servers().now_say(|_, _| (ms(100), silence()));
    advance(ms(39_800)).await;
    assert!(resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap().stale);
    advance(ms(1200)).await;
    let error = resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap_err();
    assert_eq!(error, ResolveError::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_gone_is_gone_at_once() {
    let resolver = resolver(|_, _| (ms(0), found(&[A], 10)));
    resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap();
    resolver
        .servers()
        .now_say(|_, _| (ms(0), nothing(ResolveError::NotFound, 5)));
    resolver.servers().set_down(true);
    advance(ms(10_001)).await;
    let error = resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap_err();
    assert_eq!(error, ResolveError::NotFound);
    // And stays so when the servers fail afterwards.
    resolver.servers().now_say(|_, _| (ms(0), silence()));
    advance(ms(5_001)).await;
    let error = resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap_err();
    assert_eq!(error, ResolveError::TimedOut);
}

/// D19, the part of the resolver: a flood of names leaves no more behind than `dns.cache` of them.
#[tokio::test(start_paused = true)]
async fn a_flood_of_names_is_bounded() {
    let resolver = resolver(|_, _| (ms(0), found(&[A], 10)));
    for number in 0..20_000 {
        resolver
            .lookup(&name(&format!("n{number}.test")), Family::V4, ASKER)
            .await
            .unwrap();
    }
    let state = resolver.shared.state();
    assert_eq!(state.memory.len(), 100);
    assert!(state.flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn questions_at_once_are_bounded() {
    let resolver = resolver(|_, _| (ms(1000), found(&[A], 10)));
    let mut lookups = tokio::task::JoinSet::new();
    for number in 0..=MAX_QUESTIONS {
        let resolver = resolver.clone();
        let asker = client(number);
        lookups.spawn(async move {
            resolver
                .lookup(&name(&format!("n{number}.test")), Family::V4, asker)
                .await
        });
    }
    tokio::time::sleep(ms(500)).await;
    assert_eq!(resolver.servers().asked().len(), MAX_QUESTIONS);
    while let Some(answer) = lookups.join_next().await {
        answer.unwrap().unwrap();
    }
    assert_eq!(resolver.servers().asked().len(), MAX_QUESTIONS + 1);
}

/// One client asks for names whose zone never answers; it alone is turned away, until one of them has failed.
#[tokio::test(start_paused = true)]
async fn one_client_cannot_take_all_turns() {
    let resolver = resolver(|name, _| match name {
        "a.test" | "b.test" => (ms(5), found(&[A], 60)),
        _ => (ms(2500), silence()),
    });
    resolver.lookup(&name("a.test"), Family::V4, OTHER).await.unwrap();
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..5000 {
        let resolver = resolver.clone();
        flood.spawn(async move {
            let start = Instant::now();
            let outcome = resolver
                .lookup(&name(&format!("n{number}.test")), Family::V4, ASKER)
                .await;
            (outcome.unwrap_err(), start.elapsed())
        });
    }
    tokio::time::sleep(ms(10)).await;
    assert_eq!(resolver.servers().asked().len(), 1 + MAX_QUESTIONS_OF_ONE);
    // Neither a name in the cache nor a question in flight is charged; others have shares of their own.
    assert!(
        resolver
            .lookup(&name("a.test"), Family::V4, ASKER)
            .await
            .unwrap()
            .cached
    );
    let b = name("b.test");
    let (first, joined) = tokio::join!(
        resolver.lookup(&b, Family::V4, OTHER),
        resolver.lookup(&b, Family::V4, ASKER)
    );
    assert_eq!((first.unwrap().took, joined.unwrap().took), (ms(5), ms(5)));
    let (mut late, mut refused) = (0, 0);
    while let Some(outcome) = flood.join_next().await {
        match outcome.unwrap() {
            (ResolveError::TimedOut, _) => late += 1,
            (error, took) => {
                assert_eq!((error, took), (ResolveError::TooMany, ms(0)));
                refused += 1;
            }
        }
    }
    assert_eq!((late, refused), (MAX_QUESTIONS_OF_ONE, 5000 - MAX_QUESTIONS_OF_ONE));
    assert!(resolver.shared.state().shares.is_empty());
    let error = resolver.lookup(&name("c.test"), Family::V4, ASKER).await.unwrap_err();
    assert_eq!(error, ResolveError::TimedOut);
}

/// While the servers are down a client that has used up its share still gets what it would get otherwise.
#[tokio::test(start_paused = true)]
async fn expired_answers_need_no_share_while_servers_are_down() {
    let resolver = resolver(|_, _| (ms(0), found(&[A], 10)));
    resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap();
    advance(ms(10_001)).await;
    resolver.servers().now_say(|_, _| (ms(2500), silence()));
    for number in 0..MAX_QUESTIONS_OF_ONE {
        let resolver = resolver.clone();
        tokio::spawn(async move {
            resolver
                .lookup(&name(&format!("n{number}.test")), Family::V4, ASKER)
                .await
        });
    }
    tokio::time::sleep(ms(10)).await;
    let error = resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap_err();
    assert_eq!(error, ResolveError::TooMany);
    resolver.servers().set_down(true);
    assert!(resolver.lookup(&name("a.test"), Family::V4, ASKER).await.unwrap().stale);
}

/// Who never got a turn asked nobody: that is no server's fault, and nothing is remembered of the name.
#[tokio::test(start_paused = true)]
async fn a_turn_that_never_comes_is_not_a_time_out_of_servers() {
    let resolver = resolver(|_, _| (ms(10_000), found(&[A], 60)));
    for number in 0..MAX_QUESTIONS {
        let resolver = resolver.clone();
        let asker = client(number);
        tokio::spawn(async move {
            resolver
                .lookup(&name(&format!("n{number}.test")), Family::V4, asker)
                .await
        });
    }
    tokio::time::sleep(ms(10)).await;
    let start = Instant::now();
    let error = resolver.lookup(&name("a.test"), Family::V4, OTHER).await.unwrap_err();
    assert_eq!((error, start.elapsed()), (ResolveError::Busy, ms(2000)));
    assert_eq!(resolver.servers().asked().len(), MAX_QUESTIONS);
    let recalled = resolver
        .shared
        .state()
        .memory
        .recall(&name("a.test"), Family::V4, Instant::now());
    assert_eq!(recalled, Recalled::Unknown);
}

/// A client for each question.
fn client(number: usize) -> IpAddr {
    Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into()
}

#[tokio::test(start_paused = true)]
async fn a_cache_of_none_still_asks_once_at_a_time() {
    let settings = settings::Dns { cache: 0, ..settings() };
    let resolver = Arc::new(Resolver::over(Script::new(|_, _| (ms(10), found(&[A], 10))), &settings));
    let a = name("a.test");
    let (one, two) = tokio::join!(
        resolver.lookup(&a, Family::V4, ASKER),
        resolver.lookup(&a, Family::V4, ASKER)
    );
    assert!(one.is_ok() && two.is_ok());
    assert!(!resolver.lookup(&a, Family::V4, ASKER).await.unwrap().cached);
    assert_eq!(resolver.servers().asked().len(), 2);
}
