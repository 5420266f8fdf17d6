//! Requests are made from the shapes themselves, by a seeded generator, and must mean the same to the
//! decoder: whatever passes the walk is decoded to its last byte, whatever is cut or blown up is refused.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, DeleteGroupsRequest, DescribeLogDirsRequest, DescribeShareGroupOffsetsRequest,
    ListOffsetsRequest, ReadShareGroupStateSummaryRequest, RequestKind,
};
use kafka_protocol::protocol::VersionRange;

use super::*;
use crate::protocol::RawRequest;
use crate::protocol::newer::{self, NEWER};
use crate::protocol::share;

/// xorshift: the tests need variety, not quality.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Writes a message of a shape and remembers where its counts and lengths are.
struct Maker {
    random: Random,
    out: Vec<u8>,
    flexible: bool,
    counts: Vec<(usize, usize)>,
}

impl Maker {
    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn len(&mut self, len: Option<usize>, wide: bool) {
        let start = self.out.len();
        if self.flexible {
            self.varint(len.map_or(0, |len| len + 1));
        } else if wide {
            self.out
                .extend(len.map_or(-1, |len| len as i32).to_be_bytes());
        } else {
            self.out
                .extend(len.map_or(-1, |len| len as i16).to_be_bytes());
        }
        self.counts.push((start, self.out.len()));
    }

    fn kind(&mut self, kind: &Kind, nullable: bool) {
        let null = nullable && self.random.below(3) == 0;
        match kind {
            // Small numbers: an enumeration or version inside must stay known to the decoder.
            Kind::Fixed(len) => self.out.extend((0..*len).map(|i| u8::from(i + 1 == *len))),
            Kind::String | Kind::Bytes => {
                let wide = matches!(kind, Kind::Bytes);
                if null {
                    return self.len(None, wide);
                }
                let len = self.random.below(9) as usize;
                self.len(Some(len), wide);
                for _ in 0..len {
                    let letter = b'a' + self.random.below(26) as u8;
                    self.out.push(letter);
                }
            }
            Kind::Array(element) => {
                if null {
                    return self.len(None, true);
                }
                let count = self.random.below(4) as usize;
                self.len(Some(count), true);
                (0..count).for_each(|_| self.kind(element, false));
            }
            Kind::Struct(fields) => {
                if nullable {
                    self.out.push(if null { 0xff } else { 1 });
                }
                if !null {
                    self.fields(fields);
                }
            }
        }
    }

    fn fields(&mut self, fields: &[Field]) {
        for field in fields.iter().filter(|field| field.tag.is_none()) {
            self.kind(&field.kind, field.nullable);
        }
        if !self.flexible {
            return;
        }
        let mut tagged: Vec<_> = fields.iter().filter(|f| f.tag.is_some()).collect();
        tagged.retain(|_| self.random.below(2) == 0);
        tagged.sort_by_key(|field| field.tag);
        self.varint(tagged.len());
        for field in tagged {
            let tag = field.tag.unwrap();
            // The decoder takes no null where the tag's absence says it.
            let mut inner = Maker {
                random: Random(self.random.0),
                out: vec![],
                flexible: true,
                counts: vec![],
            };
            inner.kind(&field.kind, field.nullable);
            self.random.0 = inner.random.0;
            self.varint(tag as usize);
            self.varint(inner.out.len());
            let start = self.out.len();
            self.out.extend(&inner.out);
            self.counts
                .extend(inner.counts.iter().map(|(a, b)| (a + start, b + start)));
        }
    }
}

fn make(shape: &Shape, seed: u64) -> Maker {
    let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut maker = Maker {
        random,
        out: Vec::new(),
        flexible: shape.flexible,
        counts: Vec::new(),
    };
    maker.fields(&shape.fields);
    maker
}

/// Every API and version that the decoder knows, and Kafka's schemas too.
fn known() -> impl Iterator<Item = (ApiKey, i16, &'static Shape)> {
    ApiKey::iter().flat_map(|api| {
        let VersionRange { min, max } = api.valid_versions();
        (min..=max).filter_map(move |version| Some((api, version, request(api as i16, version)?)))
    })
}

#[test]
fn every_served_request_has_a_shape() {
    for served in crate::protocol::served::SERVED {
        for version in served.min..=served.max {
            assert!(
                request(served.api as i16, version).is_some(),
                "{served:?} v{version}"
            );
        }
    }
}

#[test]
fn the_served_table_is_sorted_and_names_no_api_twice() {
    let keys: Vec<i16> = crate::protocol::served::SERVED
        .iter()
        .map(|s| s.api as i16)
        .collect();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
}

#[test]
fn what_the_walk_accepts_the_decoder_reads_to_the_end() {
    for (api, version, shape) in known() {
        for seed in 0..20 {
            let made = make(shape, seed);
            assert_eq!(
                shape.walk(&made.out),
                Ok(&[][..]),
                "{api:?} v{version} seed {seed}"
            );
            let mut bytes = Bytes::from(made.out);
            let request = match RequestKind::decode(api, &mut bytes, version) {
                Ok(request) => request,
                // The decoder names some versions as valid that it does not read.
                Err(_) if NEWER.contains(&(api, version)) => break,
                Err(error) if !crate::protocol::served::is_served(api, version) => {
                    println!("{api:?} v{version} is not decoded: {error:?}");
                    break;
                }
                Err(error) => panic!("{api:?} v{version} seed {seed}: {error:?}"),
            };
            assert!(
                bytes.is_empty(),
                "{api:?} v{version} seed {seed}: {} bytes left",
                bytes.len()
            );
            let mut again = BytesMut::new();
            if request.encode(&mut again, version).is_ok() {
                assert_eq!(
                    shape.walk(&again),
                    Ok(&[][..]),
                    "{api:?} v{version} seed {seed}, encoded"
                );
            }
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    for (api, version, shape) in known() {
        for seed in 0..5 {
            let made = make(shape, seed);
            for len in 0..made.out.len() {
                assert!(
                    shape.walk(&made.out[..len]).is_err(),
                    "{api:?} v{version} seed {seed} cut at {len}"
                );
            }
        }
    }
}

#[test]
fn every_huge_count_and_length_is_refused() {
    for (api, version, shape) in known() {
        for seed in 0..10 {
            let made = make(shape, seed);
            for &(start, end) in &made.counts {
                let huge: &[u8] = match (shape.flexible, end - start) {
                    (true, _) => &[0xff, 0xff, 0xff, 0xff, 0x0f],
                    (false, 2) => &[0x7f, 0xff],
                    (false, _) => &[0x7f, 0xff, 0xff, 0xff],
                };
                let mut mutated = made.out.clone();
                mutated.splice(start..end, huge.iter().copied());
                assert!(
                    shape.walk(&mutated).is_err(),
                    "{api:?} v{version} seed {seed} at {start}"
                );
            }
        }
    }
}

#[test]
fn flipped_bytes_never_panic_the_walk_or_the_decoder() {
    for (api, version, shape) in known() {
        for seed in 0..3 {
            let made = make(shape, seed);
            for at in 0..made.out.len().min(400) {
                for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                    let mut mutated = made.out.clone();
                    mutated[at] = value;
                    if shape.walk(&mutated).is_ok() {
                        drop(RequestKind::decode(api, &mut Bytes::from(mutated), version));
                    }
                }
            }
        }
    }
}

#[test]
fn the_number_of_elements_is_bounded() {
    let shape = request(ApiKey::Metadata as i16, 8).unwrap();
    let names = crate::protocol::shape::MAX_ELEMENTS + 1;
    let mut bytes = (names as i32).to_be_bytes().to_vec();
    bytes.extend(vec![0; names * 2 + 3]);
    assert!(shape.walk(&bytes).unwrap_err().contains("elements"));
}

#[test]
fn carried_messages_have_shapes() {
    for name in ["ConsumerProtocolSubscription", "ConsumerProtocolAssignment"] {
        for version in 0..=3 {
            let made = make(data(name, version).unwrap(), 7);
            assert!(crate::protocol::shape::check_data(name, version, &made.out).is_ok());
        }
    }
    assert!(
        crate::protocol::shape::check_data("ConsumerProtocolSubscription", 0, &[0x7f; 4]).is_err()
    );
}

#[test]
fn only_listed_versions_are_beyond_the_decoder() {
    let served = crate::protocol::served::SERVED.iter();
    let versions = served.flat_map(|s| (s.min..=s.max).map(|version| (s.api, version)));
    let beyond = versions.filter(|(api, version)| {
        let made = make(request(*api as i16, *version).unwrap(), 1);
        RequestKind::decode(*api, &mut Bytes::from(made.out), *version).is_err()
    });
    assert_eq!(beyond.collect::<Vec<_>>(), NEWER);
}

/// Decodes a version that is beyond the decoder.
fn decode_newer(api: ApiKey, version: i16, body: &[u8]) -> bool {
    let raw = RawRequest {
        api,
        version,
        correlation_id: 0,
        client_id: None,
        body: Bytes::copy_from_slice(body),
    };
    match api {
        ApiKey::ListOffsets => raw.decode::<ListOffsetsRequest>().is_ok(),
        ApiKey::DescribeLogDirs => raw.decode::<DescribeLogDirsRequest>().is_ok(),
        ApiKey::DeleteGroups => raw.decode::<DeleteGroupsRequest>().is_ok(),
        ApiKey::OffsetCommit => newer::offset_commit_request(&raw).is_ok(),
        ApiKey::OffsetFetch => newer::offset_fetch_request(&raw).is_ok(),
        ApiKey::ApiVersions => newer::api_versions_request(&raw).is_ok(),
        ApiKey::ShareFetch => share::share_fetch_request(&raw).is_ok(),
        ApiKey::ShareAcknowledge => share::share_acknowledge_request(&raw).is_ok(),
        ApiKey::WriteShareGroupState => share::write_state_request(&raw).is_ok(),
        ApiKey::ReadShareGroupStateSummary => {
            raw.decode::<ReadShareGroupStateSummaryRequest>().is_ok()
        }
        ApiKey::DescribeShareGroupOffsets => {
            raw.decode::<DescribeShareGroupOffsetsRequest>().is_ok()
        }
        ApiKey::WriteTxnMarkers => newer::write_txn_markers_request(&raw).is_ok(),
        ApiKey::TxnOffsetCommit => newer::txn_offset_commit_request(&raw).is_ok(),
        other => panic!("{other:?} has no decoder"),
    }
}

#[test]
fn newer_versions_are_decoded_whole_and_refused_when_cut() {
    for &(api, version) in NEWER {
        for seed in 0..40 {
            let made = make(request(api as i16, version).unwrap(), seed).out;
            assert!(decode_newer(api, version, &made), "{api:?} seed {seed}");
            for len in 0..made.len() {
                let cut = &made[..len];
                assert!(
                    !decode_newer(api, version, cut),
                    "{api:?} seed {seed} cut at {len}"
                );
            }
            for at in 0..made.len() {
                for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                    let mut mutated = made.clone();
                    mutated[at] = value;
                    // Whatever comes of it: no panic, no memory out of proportion.
                    let _ = decode_newer(api, version, &mutated);
                }
            }
        }
    }
}
