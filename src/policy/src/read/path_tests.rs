use proptest::prelude::*;

use super::*;

fn rules() -> PathRules {
    crate::read::tests::stripe().vendors[0].pack.path.clone()
}

proptest! {
    #[test]
    fn any_target_is_canonical_already_or_refused(target in "(/|v1|v2|charges|\\.|%2e|%2F|\\?|#|;|\\\\|[a-zA-Z0-9_é ]){0,12}") {
        let rules = rules();
        if let Ok(Target { path, query, .. }) = parse(&rules, &target) {
            let rest = path.strip_prefix('/').unwrap();
            let plain = rest.split('/').all(|segment| {
                !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            });
            prop_assert!(plain, "{}", path);
            prop_assert!(rest.starts_with("v1") || rest.starts_with("v2"));
            let again = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
            prop_assert_eq!(&again, &target, "what is judged is what came in");
        }
    }
}
