//! The limit of open files: raised as far as the system lets us, and what it means for connections.
//! Must not be changed later: connection limits are derived from it once.
//! Called at start, before anything is bound.

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise() -> io::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(limit.current.unwrap_or(u64::MAX))
}

/// How many client connections fit into that many descriptors: two a tunnel, and some for pipes and all else.
pub fn connections(descriptors: u64) -> usize {
    let kept = KEPT.min(descriptors / 16);
    usize::try_from((beside_slack(descriptors) - kept) / PER_CONNECTION).unwrap_or(usize::MAX)
}

/// How many pipes of the relay fit beside them: two descriptors each.
pub fn pipes(descriptors: u64) -> usize {
    usize::try_from(of_pipes(descriptors) / 2).unwrap_or(usize::MAX)
}

/// How many are left over beside that many client connections, all with their two: for what is only kept for later.
pub fn spare(descriptors: u64, connections: usize) -> usize {
    let promised = (connections as u64).saturating_mul(PER_CONNECTION);
    let spare = beside_slack(descriptors).saturating_sub(promised);
    usize::try_from(spare).unwrap_or(usize::MAX)
}

fn beside_slack(descriptors: u64) -> u64 {
    descriptors - SLACK.min(descriptors / 4) - of_pipes(descriptors)
}

fn of_pipes(descriptors: u64) -> u64 {
    2 * PIPES.min(descriptors / 256)
}

const PER_CONNECTION: u64 = 2;
/// See [`crate::relay::Pipes`], which may have fewer.
const PIPES: u64 = 128;
/// 1024 DNS questions in flight (see the resolver); listeners, races of several addresses, watched directories, admin.
const SLACK: u64 = 1024 + 256;
/// Not promised to client connections, however many they may be. No more, so that a limit of 20,000, which many systems
/// do not let one raise, still carries 9,000 tunnels.
const KEPT: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let descriptors = raise().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(descriptors, limit.current.unwrap_or(u64::MAX));
    }

    #[test]
    fn connections_leave_room_for_the_rest() {
        assert_eq!(connections(0), 0);
        assert_eq!(connections(1024), 348);
        assert_eq!(connections(20_000), 9_026);
        assert_eq!(connections(1_048_576), 523_264);
        assert!(connections(u64::MAX) > 1_000_000);
    }

    #[test]
    fn pipes_are_few_where_descriptors_are() {
        assert_eq!((pipes(0), pipes(1024), pipes(20_000)), (0, 4, 78));
        assert_eq!((pipes(32_768), pipes(u64::MAX)), (128, 128));
    }

    #[test]
    fn what_is_promised_and_what_is_spare_fit_together() {
        assert_eq!(spare(1000, connections(1000)), 62);
        assert_eq!(spare(20_000, connections(20_000)), 512);
        assert_eq!(spare(1_048_576, 50_000), 947_040);
        assert_eq!((spare(1000, 376), spare(0, usize::MAX)), (0, 0));
    }
}
