//! The resolver above scripted servers in paused time (here), and over the wire (`wire`).
//! Must not wait for real time where paused time will do.
//! Called by the test run.

mod stub;
mod wire;

use std::sync::Arc;

use tokio::time::advance;

use super::*;
use crate::net::scripted::{Script, found, ms, name, nothing, resolver, settings, silence};

const A: &str = "192.0.2.1";

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_its_ttl() {
    let resolver = resolver(|_, _| (ms(5), found(&[A], 10)));
    let first = resolver.lookup(&name("a.test"), Family::V4).await.unwrap();
    assert_eq!((first.cached, first.stale, first.took), (false, false, ms(5)));
    advance(ms(9900)).await;
    let second = resolver.lookup(&name("a.test"), Family::V4).await.unwrap();
    assert_eq!((second.cached, second.took), (true, ms(0)));
    assert_eq!(second.addresses, first.addresses);
    assert_eq!(resolver.servers().asked().len(), 1);
    advance(ms(100)).await;
    assert!(!resolver.lookup(&name("a.test"), Family::V4).await.unwrap().cached);
    assert_eq!(resolver.servers().asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn families_are_asked_for_apart() {
    let resolver = resolver(|_, family| match family {
        Family::V4 => (ms(0), found(&[A], 10)),
        Family::V6 => (ms(0), nothing(ResolveError::NoAddress, 10)),
    });
    assert!(resolver.lookup(&name("a.test"), Family::V4).await.is_ok());
    let v6 = resolver.lookup(&name("a.test"), Family::V6).await;
    assert_eq!(v6.unwrap_err(), ResolveError::NoAddress);
    assert_eq!(
        resolver.servers().asked(),
        [("a.test".to_owned(), Family::V4), ("a.test".to_owned(), Family::V6)]
    );
}

/// How long something with that TTL is kept, in seconds, found by asking each second.
async fn kept_for(outcome: Result<Found, Trouble>) -> u64 {
    let resolver = resolver(move |_, _| (ms(0), outcome.clone()));
    let _ = resolver.lookup(&name("a.test"), Family::V4).await;
    for second in 1.. {
        advance(ms(999)).await;
        let _ = resolver.lookup(&name("a.test"), Family::V4).await;
        if resolver.servers().asked().len() > 1 {
            return second - 1;
        }
        advance(ms(1)).await;
        let _ = resolver.lookup(&name("a.test"), Family::V4).await;
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
        lookups.spawn(async move { resolver.lookup(&name("a.test"), Family::V4).await });
        tokio::time::sleep(ms(1)).await;
    }
    while let Some(answer) = lookups.join_next().await {
        assert_eq!(answer.unwrap().unwrap().addresses.len(), 1);
    }
    assert_eq!(resolver.servers().asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_question_outlives_the_client_that_asked_first() {
    let resolver = resolver(|_, _| (ms(100), found(&[A], 10)));
    let first = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.lookup(&name("a.test"), Family::V4).await }
    });
    tokio::time::sleep(ms(10)).await;
    let second = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.lookup(&name("a.test"), Family::V4).await }
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
    resolver.lookup(&name("a.test"), Family::V4).await.unwrap();
    resolver.servers().now_say(|_, _| (ms(2500), silence()));
    advance(ms(12_000)).await;
    // The first client finds out that the servers are gone, at the price of a time-out.
    let answer = resolver.lookup(&name("a.test"), Family::V4).await.unwrap();
    assert_eq!((answer.stale, answer.cached, answer.took), (true, true, ms(2500)));
    // For a second nobody is asked again.
    let answer = resolver.lookup(&name("a.test"), Family::V4).await.unwrap();
    assert_eq!((answer.stale, answer.took), (true, ms(0)));
    assert_eq!(resolver.servers().asked().len(), 2);
    // From then on the question goes on without the clients.
    resolver.servers().set_down(true);
    advance(ms(1100)).await;
    let answer = resolver.lookup(&name("a.test"), Family::V4).await.unwrap();
    assert_eq!((answer.stale, answer.took), (true, STALE_AFTER));
    assert_eq!(resolver.servers().asked().len(), 3);
    // Once they answer, clients get the fresh answer at once.
    tokio::time::sleep(ms(3500)).await;
    resolver.servers().now_say(|_, _| (ms(5), found(&["192.0.2.2"], 10)));
    let answer = resolver.lookup(&name("a.test"), Family::V4).await.unwrap();
    assert_eq!((answer.stale, answer.took), (false, ms(5)));
    assert_eq!(answer.addresses[0].to_string(), "192.0.2.2");
}

#[tokio::test(start_paused = true)]
async fn expired_answers_end_too() {
    let resolver = resolver(|_, _| (ms(0), found(&[A], 10)));
    resolver.lookup(&name("a.test"), Family::V4).await.unwrap();
    resolver.servers().now_say(|_, _| (ms(100), silence()));
    advance(ms(39_800)).await;
    assert!(resolver.lookup(&name("a.test"), Family::V4).await.unwrap().stale);
    advance(ms(1200)).await;
    let error = resolver.lookup(&name("a.test"), Family::V4).await.unwrap_err();
    assert_eq!(error, ResolveError::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_gone_is_gone_at_once() {
    let resolver = resolver(|_, _| (ms(0), found(&[A], 10)));
    resolver.lookup(&name("a.test"), Family::V4).await.unwrap();
    resolver
        .servers()
        .now_say(|_, _| (ms(0), nothing(ResolveError::NotFound, 5)));
    resolver.servers().set_down(true);
    advance(ms(10_001)).await;
    let error = resolver.lookup(&name("a.test"), Family::V4).await.unwrap_err();
    assert_eq!(error, ResolveError::NotFound);
    // And stays so when the servers fail afterwards.
    resolver.servers().now_say(|_, _| (ms(0), silence()));
    advance(ms(5_001)).await;
    let error = resolver.lookup(&name("a.test"), Family::V4).await.unwrap_err();
    assert_eq!(error, ResolveError::TimedOut);
}

/// D19, the part of the resolver: a flood of names leaves no more behind than `dns.cache` of them.
#[tokio::test(start_paused = true)]
async fn a_flood_of_names_is_bounded() {
    let resolver = resolver(|_, _| (ms(0), found(&[A], 10)));
    for number in 0..20_000 {
        resolver
            .lookup(&name(&format!("n{number}.test")), Family::V4)
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
        lookups.spawn(async move { resolver.lookup(&name(&format!("n{number}.test")), Family::V4).await });
    }
    tokio::time::sleep(ms(500)).await;
    assert_eq!(resolver.servers().asked().len(), MAX_QUESTIONS);
    while let Some(answer) = lookups.join_next().await {
        answer.unwrap().unwrap();
    }
    assert_eq!(resolver.servers().asked().len(), MAX_QUESTIONS + 1);
}

#[tokio::test(start_paused = true)]
async fn a_cache_of_none_still_asks_once_at_a_time() {
    let settings = settings::Dns { cache: 0, ..settings() };
    let resolver = Arc::new(Resolver::over(Script::new(|_, _| (ms(10), found(&[A], 10))), &settings));
    let a = name("a.test");
    let (one, two) = tokio::join!(resolver.lookup(&a, Family::V4), resolver.lookup(&a, Family::V4));
    assert!(one.is_ok() && two.is_ok());
    assert!(!resolver.lookup(&a, Family::V4).await.unwrap().cached);
    assert_eq!(resolver.servers().asked().len(), 2);
}
