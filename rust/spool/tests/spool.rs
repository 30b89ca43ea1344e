//! A spool as its callers see it, on real files. What a kill does to it is tested with real processes, from Python.

#![allow(clippy::unwrap_used, reason = "a test fails where it may")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use proptest::prelude::*;
use schematic_spool::{Fsync, Options, Spool, ThisMachine, Ticket};

const HOUR: i64 = 3_600_000;

fn options(directory: &Path) -> Options {
    Options {
        directory: directory.to_owned(),
        max_bytes: 256 * 1024,
        fsync: Fsync::Never,
        longest_wait: 24 * HOUR,
        clock: Box::new(|| 1000 * HOUR),
        machine: Arc::new(ThisMachine),
    }
}

fn open(directory: &Path) -> Spool {
    Spool::new(options(directory))
}

fn keep(spool: &Spool, text: &str) -> Option<Ticket> {
    spool.keep(&mut |out| out.extend_from_slice(text.as_bytes()))
}

fn taken(spool: &Spool) -> Vec<String> {
    let events = spool.take_waiting(1000).into_iter();
    events
        .map(|(_, event)| String::from_utf8(event.into()).unwrap())
        .collect()
}

fn names(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect()
}

/// A process dies without any of its code running; its locks are gone, its files are not.
fn die(spool: Spool) {
    drop(spool);
}

#[test]
fn what_a_dead_process_left_is_adopted_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let dead = open(directory.path());
    for text in ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"] {
        keep(&dead, text).unwrap();
    }
    let living = open(directory.path());
    living.adopt();
    assert_eq!(living.waiting(), 0, "its process lives");
    die(dead);
    living.adopt();
    living.adopt();
    let other = open(directory.path());
    other.adopt();
    assert_eq!(taken(&living), ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
    assert!(taken(&other).is_empty());
}

#[test]
fn what_is_delivered_is_not_adopted_and_its_files_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let dead = open(directory.path());
    let first = keep(&dead, "{\"a\":1}").unwrap();
    keep(&dead, "{\"b\":2}").unwrap();
    dead.delivered(&mut [first].into_iter());
    die(dead);
    let living = open(directory.path());
    living.adopt();
    let events = living.take_waiting(10);
    assert_eq!(events.len(), 1);
    living.delivered(&mut events.iter().map(|(ticket, _)| *ticket));
    living.close();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_full_spool_refuses_what_is_new_and_takes_again_what_it_has_room_for() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let text = "x".repeat(1000);
    let kept: Vec<_> = std::iter::from_fn(|| keep(&spool, &text)).collect();
    assert!(kept.len() > 200);
    let counts = spool.counts();
    assert_eq!((counts.refused, counts.open), (1, kept.len()));
    assert!(counts.bytes <= 256 * 1024);
    assert!(spool.report().fault.unwrap().contains("is full"));
    spool.delivered(&mut kept.into_iter());
    assert!(keep(&spool, &text).is_some());
    assert_eq!((spool.counts().open, spool.report().fault), (1, None));
    assert_eq!(names(directory.path(), ".v1").len(), 1);
}

#[test]
fn an_event_larger_than_a_segment_has_one_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    assert!(keep(&spool, &"x".repeat(100_000)).is_some());
    assert!(keep(&spool, &"x".repeat(1_000_000)).is_none());
    assert!(keep(&spool, "{}").is_some());
}

#[test]
fn what_is_too_old_is_parked_and_not_sent() {
    let directory = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(1000 * HOUR));
    let clock = || {
        let now = Arc::clone(&now);
        Box::new(move || now.load(SeqCst)) as Box<dyn Fn() -> i64 + Send + Sync>
    };
    let dead = Spool::new(Options {
        clock: clock(),
        ..options(directory.path())
    });
    keep(&dead, "{\"old\":1}").unwrap();
    now.fetch_add(HOUR, SeqCst);
    keep(&dead, "{\"new\":1}").unwrap();
    die(dead);
    now.fetch_add(24 * HOUR, SeqCst);
    let living = Spool::new(Options {
        clock: clock(),
        ..options(directory.path())
    });
    living.adopt();
    assert_eq!(taken(&living), ["{\"new\":1}"]);
    let counts = living.counts();
    assert_eq!((counts.parked, counts.open), (1, 1));
    let parked = names(directory.path(), ".parked.jsonl");
    assert_eq!(
        fs::read_to_string(&parked[0]).unwrap(),
        "{\"written_at\":3600000000,\"event\":{\"old\":1}}\n"
    );
    assert!(
        living
            .report()
            .notices
            .iter()
            .any(|text| text.contains("too old"))
    );
    die(living);
    let next = open(directory.path());
    next.adopt();
    assert_eq!(next.counts().parked, 0, "it is parked once");
}

#[test]
fn a_record_that_memory_has_no_room_for_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path());
    let ticket = keep(&spool, "{\"a\":1}").unwrap();
    assert_eq!(spool.waiting(), 0);
    spool.leave(ticket, 7);
    assert_eq!(spool.waiting(), 1);
    assert_eq!(taken(&spool), ["{\"a\":1}"]);
}

#[test]
fn a_directory_that_cannot_be_made_refuses_and_tells() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let spool = open(&file.join("below"));
    spool.start();
    assert!(keep(&spool, "{}").is_none());
    assert_eq!(spool.counts().refused, 1);
    spool.adopt();
    spool.close();
}

#[test]
fn a_closed_spool_keeps_nothing_more_and_leaves_the_rest_to_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::new(Options {
        fsync: Fsync::Every(Duration::from_millis(1)),
        ..options(directory.path())
    });
    spool.start();
    keep(&spool, "{\"a\":1}").unwrap();
    spool.close();
    assert!(keep(&spool, "{}").is_none());
    let next = open(directory.path());
    next.adopt();
    assert_eq!(taken(&next), ["{\"a\":1}"]);
}

#[test]
fn every_event_of_many_threads_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::new(Options {
        fsync: Fsync::Always,
        max_bytes: 4 * 1024 * 1024,
        ..options(directory.path())
    });
    spool.start();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let spool = &spool;
            scope.spawn(move || {
                for at in 0..200 {
                    keep(spool, &format!("{{\"{thread}\":{at}}}")).unwrap();
                    if at % 20 == 0 {
                        spool.wait();
                    }
                }
            });
        }
    });
    spool.close();
    let next = open(directory.path());
    next.adopt();
    let mut found = taken(&next);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 800);
}

#[test]
fn what_is_no_segment_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("note.txt"), "of a person").unwrap();
    fs::write(
        directory.path().join("1-a.00000001.v2"),
        "of a later version",
    )
    .unwrap();
    fs::write(directory.path().join("1-a.00000001.v1"), "").unwrap();
    let spool = open(directory.path());
    spool.adopt();
    assert_eq!(spool.counts().adopted, 0);
    assert!(directory.path().join("note.txt").exists());
    assert!(directory.path().join("1-a.00000001.v2").exists());
    assert!(!directory.path().join("1-a.00000001.v1").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damage_costs_the_record_that_it_hit_and_is_told_once(
        count in 1..20_usize, hit: prop::sample::Index, place in 24..34_usize, bit in 0..8_u8,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let dead = open(directory.path());
        for at in 0..count {
            keep(&dead, &format!("{{\"n\":{at:04}}}")).unwrap();
        }
        die(dead);
        let path = names(directory.path(), ".v1").remove(0);
        let mut bytes = fs::read(&path).unwrap();
        let hit = hit.index(count);
        bytes[hit * 40 + place] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();

        let living = open(directory.path());
        living.adopt();
        let left: Vec<_> = (0..count).filter(|at| *at != hit).collect();
        let expected: Vec<_> = left.iter().map(|at| format!("{{\"n\":{at:04}}}")).collect();
        let events = living.take_waiting(100);
        let texts: Vec<_> = events.iter().map(|(_, event)| String::from_utf8_lossy(event).into_owned()).collect();
        prop_assert_eq!(texts, expected);
        prop_assert_eq!(living.counts().damaged, 1);
        prop_assert_eq!(names(directory.path(), ".damaged").len(), 1);
        living.delivered(&mut events.into_iter().map(|(ticket, _)| ticket));
        prop_assert_eq!(names(directory.path(), ".v1").len(), 0);
    }

    #[test]
    fn a_file_cut_anywhere_is_read_up_to_there(count in 1..20_usize, cut: prop::sample::Index) {
        let directory = tempfile::tempdir().unwrap();
        let dead = open(directory.path());
        for at in 0..count {
            keep(&dead, &format!("{{\"n\":{at:04}}}")).unwrap();
        }
        die(dead);
        let path = names(directory.path(), ".v1").remove(0);
        let length = cut.index(count * 40);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(length as u64).unwrap();

        let living = open(directory.path());
        living.adopt();
        prop_assert!(taken(&living).len() >= length / 40);
        prop_assert!(taken(&living).len() <= length.div_ceil(40));
    }
}
