//! What the verifier must see: each kind of damage is planted and must be named, alone.

use super::rows::{Rows, sha256};
use super::verify::{Acknowledgement, Expected, Finding, Place, Verdict, acknowledgements, verify};

const PARTITIONS: usize = 3;
const FIRST: usize = 10;
const LAST: usize = 40;

fn rows() -> Rows {
    let lines: String = (0..LAST)
        .map(|row| format!("{row}\t{{\"flight\":{}}}\n", row * row))
        .collect();
    Rows::new(lines.into_bytes()).unwrap()
}

fn at(partition: i32, offset: i64) -> Place {
    Place { partition, offset }
}

/// What a perfect reader finds: rows go to the partitions in turn. One entry a record.
fn perfect(rows: &Rows) -> Vec<(Place, Vec<u8>)> {
    (FIRST..LAST)
        .map(|row| {
            let sent = row - FIRST;
            let partition = i32::try_from(sent % PARTITIONS).unwrap();
            let offset = i64::try_from(sent / PARTITIONS).unwrap();
            (at(partition, offset), rows.line(row).unwrap().to_vec())
        })
        .collect()
}

fn told(records: &[(Place, Vec<u8>)]) -> Vec<Acknowledgement> {
    records
        .iter()
        .zip(FIRST..)
        .map(|((place, _), row)| Acknowledgement { row, place: *place })
        .collect()
}

fn text(records: &[(Place, Vec<u8>)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (place, record) in records {
        text.extend(format!("{}\t{}\t", place.partition, place.offset).into_bytes());
        text.extend(record);
        text.push(b'\n');
    }
    text
}

fn judge(rows: &Rows, read: &[u8], acknowledged: Option<&[Acknowledgement]>) -> Verdict {
    let expected = Expected {
        rows,
        range: FIRST..LAST,
        partitions: PARTITIONS,
        acknowledged,
    };
    verify(&expected, read)
}

/// Plants damage in what a perfect reader found; the findings.
fn planted(damage: impl FnOnce(&mut Vec<(Place, Vec<u8>)>)) -> Vec<Finding> {
    let rows = rows();
    let mut records = perfect(&rows);
    let told = told(&records);
    damage(&mut records);
    let verdict = judge(&rows, &text(&records), Some(&told));
    assert_eq!(verdict.findings.count, verdict.findings.kept.len());
    verdict.findings.kept
}

/// Gives the records of each partition their offsets anew: the damage was done before the log.
fn renumber(records: &mut [(Place, Vec<u8>)]) {
    let mut next = [0; PARTITIONS];
    for (place, _) in records {
        let next = &mut next[usize::try_from(place.partition).unwrap()];
        place.offset = *next;
        *next += 1;
    }
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let rows = rows();
    let records = perfect(&rows);
    let told = told(&records);
    for acknowledged in [None, Some(told.as_slice())] {
        let verdict = judge(&rows, &text(&records), acknowledged);
        assert_eq!(verdict.findings.kept, []);
        assert_eq!(verdict.records, [10, 10, 10]);
        assert_eq!(verdict.digest, sha256(rows.bytes(FIRST..LAST)));
    }
}

#[test]
fn partitions_may_be_read_in_any_order() {
    let findings = planted(|records| records.sort_by_key(|(place, _)| -place.partition));
    assert_eq!(findings, []);
}

#[test]
fn a_lost_row_is_named() {
    // In the middle: the offset is missing, too.
    let findings = planted(|records| drop(records.remove(6)));
    assert_eq!(findings, [Finding::Gap(2, at(0, 3)), Finding::Lost(16)]);
    // At the end nothing but the row is missing.
    let findings = planted(|records| drop(records.pop()));
    assert_eq!(findings, [Finding::Lost(39)]);
}

#[test]
fn a_lost_row_is_named_when_the_offsets_hide_it() {
    let rows = rows();
    let mut records = perfect(&rows);
    records.remove(6);
    renumber(&mut records);
    let verdict = judge(&rows, &text(&records), None);
    assert_eq!(verdict.findings.kept, [Finding::Lost(16)]);
    assert_ne!(verdict.digest, sha256(rows.bytes(FIRST..LAST)));
}

#[test]
fn a_duplicate_is_named() {
    let rows = rows();
    let mut records = perfect(&rows);
    let again = (at(2, 10), records[5].1.clone());
    records.push(again);
    let verdict = judge(&rows, &text(&records), None);
    let expected = Finding::Duplicate(15, at(2, 1), at(2, 10));
    assert_eq!(verdict.findings.kept, [expected]);
    assert_eq!(verdict.records, [10, 10, 11]);
}

#[test]
fn a_reorder_is_named() {
    let rows = rows();
    let mut records = perfect(&rows);
    records.swap(3, 6);
    renumber(&mut records);
    let verdict = judge(&rows, &text(&records), None);
    let expected = Finding::Reordered(13, 16, at(0, 2));
    assert_eq!(verdict.findings.kept, [expected]);
    // All rows are there, unchanged: the digest is about that and nothing else.
    assert_eq!(verdict.digest, sha256(rows.bytes(FIRST..LAST)));
}

#[test]
fn a_row_that_is_not_where_it_was_acknowledged_is_named() {
    let findings = planted(|records| {
        records.swap(3, 6);
        renumber(records);
    });
    let expected = [
        Finding::Reordered(13, 16, at(0, 2)),
        Finding::Moved(13, at(0, 1), at(0, 2)),
        Finding::Moved(16, at(0, 2), at(0, 1)),
    ];
    assert_eq!(findings, expected);
}

#[test]
fn every_changed_byte_is_named() {
    let rows = rows();
    let length = rows.line(12).unwrap().len();
    let value = rows
        .line(12)
        .unwrap()
        .iter()
        .position(|b| *b == b'\t')
        .unwrap()
        + 1;
    for byte in value..length {
        for bit in 0..8 {
            let mut records = perfect(&rows);
            records[2].1[byte] ^= 1 << bit;
            if records[2].1[byte] == b'\n' {
                // Then it is two lines, of which the second is no record.
                continue;
            }
            let verdict = judge(&rows, &text(&records), None);
            let expected = Finding::Changed(12, at(2, 0), byte);
            assert_eq!(verdict.findings.kept, [expected], "byte {byte} bit {bit}");
            assert_ne!(verdict.digest, sha256(rows.bytes(FIRST..LAST)));
        }
    }
}

#[test]
fn a_longer_or_shorter_value_is_named() {
    let findings = planted(|records| records[2].1.push(b'!'));
    assert_eq!(findings, [Finding::Changed(12, at(2, 0), 17)]);
    let findings = planted(|records| records[2].1.truncate(16));
    assert_eq!(findings, [Finding::Changed(12, at(2, 0), 16)]);
}

#[test]
fn a_changed_key_is_named() {
    let findings = planted(|records| records[2].1[0] = b'x');
    let unknown = Finding::Unknown(at(2, 0), "x2".to_owned());
    assert_eq!(findings, [unknown, Finding::Lost(12)]);
}

#[test]
fn a_row_that_this_client_did_not_send_is_named() {
    let rows = rows();
    let mut records = perfect(&rows);
    records.push((at(0, 10), rows.line(3).unwrap().to_vec()));
    let verdict = judge(&rows, &text(&records), None);
    let unknown = Finding::Unknown(at(0, 10), "3".to_owned());
    assert_eq!(verdict.findings.kept, [unknown]);
}

#[test]
fn acknowledgements_are_checked_one_by_one() {
    let rows = rows();
    let records = perfect(&rows);
    let mut told = told(&records);
    told[4] = told[5];
    // A producer that was not told the offset still knows the partition.
    told[7].place.offset = -1;
    told[8].place.partition = 0;
    let verdict = judge(&rows, &text(&records), Some(&told));
    let expected = [
        Finding::AcknowledgedTwice(15),
        Finding::Moved(18, at(0, 2), at(2, 2)),
        Finding::Unacknowledged(14),
    ];
    assert_eq!(verdict.findings.kept, expected);
}

#[test]
fn what_is_no_record_is_named() {
    let rows = rows();
    for line in [
        "",
        "no",
        "1\t2",
        "x\t0\t10\tv",
        "0\tx\t10\tv",
        "7\t0\t10\tv",
        "-1\t0\t10\tv",
    ] {
        let mut read = text(&perfect(&rows));
        read.extend(format!("{line}\n").into_bytes());
        let verdict = judge(&rows, &read, None);
        assert_eq!(verdict.findings.kept, [Finding::Unreadable(30)], "{line:?}");
    }
}

#[test]
fn findings_are_counted_when_there_are_too_many_to_keep() {
    let verdict = judge(&rows(), b"", None);
    assert_eq!(verdict.findings.count, 30);
    assert_eq!(verdict.findings.kept.len(), 20);
}

#[test]
fn readers_that_disagree_are_named() {
    let rows = rows();
    let records = perfect(&rows);
    let mut others = records.clone();
    others.swap(3, 6);
    renumber(&mut others);
    others.pop();
    let one = judge(&rows, &text(&records), None);
    let other = judge(&rows, &text(&others), None);
    assert_eq!(one.compare(&one).count, 0);
    let expected = [
        Finding::Disagreement(13, Some(at(0, 1)), Some(at(0, 2))),
        Finding::Disagreement(16, Some(at(0, 2)), Some(at(0, 1))),
        Finding::Disagreement(39, Some(at(2, 9)), None),
    ];
    assert_eq!(one.compare(&other).kept, expected);
}

#[test]
fn acknowledgements_are_read_as_they_were_written() {
    let read = acknowledgements("12\t3\t456\n13\t0\t-1\n").unwrap();
    let expected = [
        Acknowledgement {
            row: 12,
            place: at(3, 456),
        },
        Acknowledgement {
            row: 13,
            place: at(0, -1),
        },
    ];
    assert_eq!(read, expected);
    for text in ["12\t3\n", "12\t3\t4\t5\n", "\n", "x\t3\t4\n"] {
        assert!(acknowledgements(text).is_err(), "{text:?}");
    }
}
