use super::*;

const FILE: &str = r#"
[graph]
targets = []
all-features = false
[licenses]
allow = ["MIT", "Apache-2.0", "Unicode-3.0"]
exceptions = [{ crate = "special", allow = ["MPL-2.0"] }]
[bans]
multiple-versions = "deny"
wildcards = "deny"
skip = [{ crate = "syn@2.0.1", reason = "macros" }]
deny = [
  { crate = "openssl-sys", reason = "C" },
  { crate = "bytes:>=1.2.1, <1.11.1", reason = "overflow" },
]
[sources]
unknown-registry = "deny"
unknown-git = "deny"
[advisories]
yanked = "deny"
"#;

fn policy() -> Policy {
    Policy::parse(FILE).unwrap()
}

#[test]
fn licence_expressions_are_evaluated() {
    let policy = policy();
    for allowed in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0-only OR MIT",
        "(MIT OR GPL-3.0-only) AND Unicode-3.0",
    ] {
        assert_eq!(
            policy.judge_license("any", Some(allowed)),
            Ok(()),
            "{allowed}"
        );
    }
    for refused in [
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "Apache-2.0 WITH LLVM-exception",
        "no licence at all (",
    ] {
        assert!(
            policy.judge_license("any", Some(refused)).is_err(),
            "{refused}"
        );
    }
    assert!(policy.judge_license("any", None).is_err());
}

#[test]
fn an_exception_is_for_its_crate_only() {
    let policy = policy();
    assert_eq!(policy.judge_license("special", Some("MPL-2.0")), Ok(()));
    assert!(policy.judge_license("other", Some("MPL-2.0")).is_err());
}

#[test]
fn bans_know_versions() {
    let policy = policy();
    let banned = |name: &str, version: &str| {
        let version = version.parse().unwrap();
        policy.banned.iter().any(|ban| ban.matches(name, &version))
    };
    assert!(banned("openssl-sys", "0.9.0"));
    assert!(banned("bytes", "1.11.0"));
    assert!(!banned("bytes", "1.11.1"));
    assert!(!banned("bytes", "1.2.0"));
    assert!(!banned("tokio", "1.0.0"));
}

#[test]
fn duplicates_are_found_unless_skipped() {
    let policy = policy();
    let versions: Vec<Version> = ["2.0.1", "3.0.0", "1.0.0"]
        .iter()
        .map(|v| v.parse().unwrap())
        .collect();
    let judge = |name: &'static str, at: &[usize]| {
        let of_it = at.iter().map(|&i| &versions[i]).collect();
        policy.judge_duplicates(&BTreeMap::from([(name, of_it)]))
    };
    assert_eq!(judge("syn", &[0, 1]), Vec::<String>::new());
    assert_eq!(judge("syn", &[0, 1, 2]).len(), 1);
    let stale = judge("syn", &[1]);
    assert!(
        stale.len() == 1 && stale[0].starts_with("stale"),
        "{stale:?}"
    );
    assert!(
        judge("other", &[0, 2])
            .iter()
            .any(|f| f.starts_with("duplicate: other: 1.0.0, 2.0.1"))
    );
}

#[test]
fn a_rule_that_is_not_checked_is_refused() {
    assert!(Policy::parse(&FILE.replace("wildcards", "features")).is_err());
}
