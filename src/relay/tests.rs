use super::*;

#[tokio::test]
async fn bytes_pass_both_ways_and_ends_are_passed_on() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut near, mut client) = tokio::io::duplex(64);
    let (mut far, mut upstream) = tokio::io::duplex(64);
    let activity = Activity::new(&Clock::new());
    let peers = async {
        near.write_all(b"a question that is longer than the pipe")
            .await
            .unwrap();
        near.shutdown().await.unwrap();
        let mut question = String::new();
        far.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "a question that is longer than the pipe");
        far.write_all(b"an answer").await.unwrap();
        far.shutdown().await.unwrap();
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "an answer");
    };
    let (end, ()) = tokio::join!(relay(&mut client, &mut upstream, &activity), peers);
    assert_eq!(end, End::Finished);
    assert_eq!((activity.up(), activity.down()), (39, 9));
    assert_eq!(buffer::leased(), 0);
}
