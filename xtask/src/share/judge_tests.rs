//! The judge finds what is planted.

use super::judge::{Event, Expected, judge};

const EXPECTED: Expected = Expected {
    records: 2,
    deliveries: 3,
    last_worker: 9,
};

fn findings(lines: &[(usize, &str)]) -> Vec<String> {
    let events: Vec<Event> = lines
        .iter()
        .map(|(worker, line)| match *line {
            "ended" => Event::Ended(*worker),
            line => Event::parse(*worker, line).unwrap(),
        })
        .collect();
    judge(&events, &EXPECTED).findings
}

const SOUND: [(usize, &str); 8] = [
    (0, "got 0 5 1 0"),
    (0, "says 0 5 RELEASE"),
    (0, "ok 0 5 "),
    (1, "got 0 5 2 0"),
    (1, "says 0 5 ACCEPT"),
    (1, "ok 0 5 "),
    (1, "got 1 5 1 1"),
    (1, "says 1 5 REJECT"),
];

#[test]
fn a_sound_run_has_no_findings() {
    assert_eq!(findings(&SOUND), Vec::<String>::new());
    // What a consumer had from before a kill, and cannot acknowledge any more.
    let mut stale = SOUND.to_vec();
    stale.extend([
        (2, "got 0 5 2 0"),
        (2, "says 0 5 ACCEPT"),
        (2, "failed 0 5 X"),
    ]);
    assert_eq!(findings(&stale), Vec::<String>::new());
}

#[test]
fn what_is_planted_is_found() {
    let with = |more: &[(usize, &'static str)]| {
        let mut lines = SOUND.to_vec();
        lines.extend(more);
        findings(&lines)
    };
    let twice = with(&[(2, "got 0 5 3 0"), (2, "says 0 5 ACCEPT"), (2, "ok 0 5 ")]);
    assert!(twice[0].contains("ended by consumer 1"), "{twice:?}");
    let often = with(&[(2, "got 1 5 4 1")]);
    assert!(often[0].contains("handed out 4 times"), "{often:?}");
    let late = with(&[(9, "got 1 5 1 1")]);
    assert!(late[0].contains("when everything was done"), "{late:?}");
    let lost = findings(&SOUND[..6]);
    assert!(lost[0].contains("came to nobody: 1"), "{lost:?}");
    let strange = with(&[(3, "ok 1 5 ")]);
    assert!(strange[0].contains("said nothing"), "{strange:?}");
    let killed = with(&[(4, "says 1 5 ACCEPT"), (4, "ended"), (4, "ok 1 5 ")]);
    assert!(killed[0].contains("said nothing"), "{killed:?}");
}
