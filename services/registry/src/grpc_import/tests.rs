//! What methods become, without a server: descriptors are compiled from proto files and handed over as reflection
//! gives them.

use ::grpc::{Method, Reflected, Service};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use prost::Message;
use prost_reflect::DescriptorPool;
use serde_json::{Value, json};
use types::Effect;

use super::{carried::carrying, *};
use crate::{
    check::Origin,
    credentials::{Basic, Material},
    definition::{Binding, Definition},
};

const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/servers/grpc");

/// Descriptors of proto files: those of the sample server, or texts by name.
fn pool(files: &[(&str, &str)]) -> DescriptorPool {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let names = files.iter().map(|(name, _)| *name);
    let set = protox::compile(names, [folder.path()]).unwrap();
    DescriptorPool::decode(set.encode_to_vec().as_slice()).unwrap()
}

fn library() -> DescriptorPool {
    let set = protox::compile(["library.proto"], [LIBRARY]).unwrap();
    DescriptorPool::decode(set.encode_to_vec().as_slice()).unwrap()
}

fn reflected(pool: &DescriptorPool) -> Reflected {
    let mut services: Vec<Service> = pool
        .services()
        .map(|found| Service { name: found.full_name().to_owned(), found: Ok(found) })
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    Reflected { listed: services.iter().map(|service| service.name.clone()).collect(), services }
}

fn source() -> Source {
    Source {
        endpoint: "http://127.0.0.1:1".into(),
        provider: "p".into(),
        services: vec![],
        methods: vec![],
        metadata: [].into(),
        credentials: vec![],
        defaults: Defaults::default(),
        allow_private_network: true,
    }
}

fn joined(range: std::ops::Range<usize>, each: impl Fn(usize) -> String) -> String {
    range.map(each).collect::<Vec<_>>().concat()
}

fn made(pool: &DescriptorPool) -> Vec<Candidate> {
    candidates(&source(), &reflected(pool)).unwrap()
}

/// The tool of a method, through every check.
fn tool(pool: &DescriptorPool, method: &str) -> Definition {
    let found = made(pool).into_iter().find(|each| each.source.ends_with(&format!("/{method}"))).unwrap();
    check::check(found.proposal.unwrap(), Origin::Import).unwrap_or_else(|found| panic!("{found:?}"))
}

fn grpc(definition: &Definition) -> &Grpc {
    match &definition.binding {
        Binding::Grpc(grpc) => grpc,
        other => panic!("{other:?}"),
    }
}

fn schema(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn unary_methods_become_tools_and_streaming_ones_say_why_not() {
    let made = made(&library());
    let told: Vec<(&str, &str, Option<&str>)> = made
        .iter()
        .map(|each| {
            (each.source.as_str(), each.name.as_str(), each.proposal.as_ref().err().map(String::as_str))
        })
        .collect();
    assert_eq!(told.len(), 8, "{told:?}");
    assert_eq!(told[0].0, "library.v1.Library/AddBooks");
    assert!(told[0].2.unwrap().contains("streams its requests"), "{told:?}");
    assert_eq!(told[4], ("library.v1.Library/GetBook", "p.library.getbook", None));
    assert!(told[7].2.unwrap().contains("streams its answers"), "{told:?}");
    assert!(told[1..7].iter().all(|each| each.2.is_none()), "{told:?}");
}

#[test]
fn only_what_a_method_says_of_itself_decides_on_its_effect() {
    let defaults = Defaults { trust_effects: true, ..Defaults::default() };
    let trusting = Source { defaults, ..source() };
    let effect = |source: &Source, pool: &DescriptorPool, method: &str| {
        let found = candidates(source, &reflected(pool)).unwrap();
        found.into_iter().find(|each| each.source.ends_with(method)).unwrap().proposal.unwrap().effect
    };
    let pool = library();
    assert_eq!(effect(&trusting, &pool, "/GetBook"), Some(Effect::ReadOnly));
    assert_eq!(effect(&trusting, &pool, "/Copy"), Some(Effect::Idempotent));
    assert_eq!(effect(&trusting, &pool, "/Inspect"), Some(Effect::SideEffect));
    let got = pool_of("service S { rpc GetIt(M) returns (M); } message M {}");
    assert_eq!(effect(&trusting, &got, "/GetIt"), Some(Effect::SideEffect));
    for method in ["/GetBook", "/Copy"] {
        assert_eq!(effect(&source(), &pool, method), Some(Effect::SideEffect), "{method} is not believed");
    }
}

fn pool_of(text: &str) -> DescriptorPool {
    pool(&[("a.proto", &format!("syntax = \"proto3\"; package a; {text}"))])
}

#[test]
fn comments_describe_methods_messages_and_fields() {
    let pool = pool_of(
        "service S {\n // Does\n // it.\n rpc DoIt(M) returns (M);\n rpc Bare(M) returns (M);\n}\n\
         // A thing.\nmessage M {\n // How many.\n int32 n = 1;\n int32 old = 2 [deprecated = true]; // Was.\n}",
    );
    let done = tool(&pool, "DoIt");
    assert_eq!((done.description.as_str(), done.title.as_str()), ("Does it.", "Do it"));
    assert_eq!(tool(&pool, "Bare").description, "Calls Bare of a.S. A thing.");
    let input = schema(&done.input_schema);
    assert_eq!(input["properties"]["n"]["description"], "How many.");
    assert_eq!(input["properties"]["old"]["description"], "Was.");
    assert_eq!(input["properties"]["old"]["deprecated"], true);
}

#[test]
fn every_kind_of_field_has_its_json_form() {
    let copy = tool(&library(), "Copy");
    let input = schema(&copy.input_schema);
    let is = |name: &str, expected: Value| {
        let mut found = input["properties"][name].clone();
        found.as_object_mut().unwrap().remove("description");
        assert_eq!(found, expected, "{name}");
    };
    let reference = |name: &str| json!({"$ref": format!("#/$defs/library.v1.{name}")});
    is("small", json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX}));
    is("large", json!({"type": ["string", "integer"], "format": "int64", "pattern": "^-?[0-9]{1,20}$"}));
    is("ratio", json!({"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}));
    is("rawBytes", json!({"type": "string", "contentEncoding": "base64"}));
    let shelves = json!(["SHELF_UNSPECIFIED", "SHELF_TOP", "SHELF_BOTTOM"]);
    is("shelf", json!({"anyOf": [{"type": "string", "enum": shelves}, {"type": "integer"}]}));
    is("nickname", json!({"type": "string"}));
    is("atTime", json!({"type": "string", "format": "date-time"}));
    is("extra", json!({"type": "object"}));
    is("anything", json!({}));
    is("inner", reference("Everything"));
    is("nested", reference("Everything.Nested"));
    is(
        "booksByNumber",
        json!({"type": "object", "additionalProperties": reference("Book"),
               "propertyNames": {"pattern": "^-?[0-9]{1,20}$"}}),
    );
    assert_eq!(input["additionalProperties"], false);
    assert_eq!(input.get("required"), None);
    let output = schema(&copy.output_schema);
    assert_eq!(output["properties"]["large"], json!({"type": "string", "format": "int64"}));
    assert_eq!(output.get("additionalProperties"), None);
}

#[test]
fn of_a_oneof_only_one_may_be_given() {
    let input = schema(&tool(&library(), "Copy").input_schema);
    let takes = |value: Value| jsonschema::validator_for(&input).unwrap().is_valid(&value);
    assert!(takes(json!({"email": "a@b"})) && takes(json!({"phone": "1"})) && takes(json!({})));
    assert!(!takes(json!({"email": "a@b", "phone": "1"})));
    assert!(takes(json!({"inner": {"inner": {"email": "a"}}})));
    assert!(!takes(json!({"inner": {"inner": {"email": "a", "phone": 1}}})));
    assert!(!takes(json!({"nobody": 1})));
}

#[test]
fn proto2_keeps_what_is_required() {
    let text = "syntax = \"proto2\"; service S { rpc Do(M) returns (M); }\n\
                message M { required string a = 1; optional int32 b = 2 [default = 7]; \
                optional group G = 3 { optional int32 c = 1; } extensions 100 to 200; }\n\
                extend M { optional int32 extra = 100; }";
    let done = tool(&pool(&[("a.proto", text)]), "Do");
    assert_eq!(schema(&done.input_schema)["required"], json!(["a"]));
    assert_eq!(done.name, "p.s.do");
}

#[test]
fn descriptors_hold_what_the_method_needs_and_nothing_else() {
    let pool = pool(&[
        (
            "base.proto",
            "syntax = \"proto3\"; package base; message Used { int32 n = 1; } message Unused { Used u = 1; }",
        ),
        ("via.proto", "syntax = \"proto3\"; package via; import public \"base.proto\"; message Other {}"),
        (
            "main.proto",
            "syntax = \"proto3\"; package main; import \"via.proto\";\n\
             // Secretive.\n service S { rpc Do(Shell.In) returns (Out); rpc Not(Big) returns (Big); }\n\
             message Shell { int32 gone = 1; message In { base.Used used = 1; } }\n\
             enum E { E_ZERO = 0; } message Out { map<string, E> all = 1; repeated int32 n = 2 [packed = false]; }\n\
             message Big { Shell s = 1; }",
        ),
    ]);
    let done = tool(&pool, "Do");
    let bytes = BASE64.decode(&grpc(&done).descriptor_set).unwrap();
    let set = prost_types::FileDescriptorSet::decode(bytes.as_slice()).unwrap();
    let files: Vec<&str> = set.file.iter().map(prost_types::FileDescriptorProto::name).collect();
    assert_eq!(files, ["base.proto", "main.proto"]);
    let text = format!("{set:?}");
    for gone in ["Unused", "Other", "Big", "gone", "Secretive", "Not\""] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    let method = Method::load(&bytes, "main.S", "Do").unwrap();
    let request = method.request(&json!({"used": {"n": 5}})).unwrap();
    assert_eq!(request.as_ref(), [0x0a, 2, 8, 5]);
}

#[test]
fn the_same_server_gives_the_same_definitions_whatever_the_order_of_its_files() {
    let (one, other) = (library(), library());
    let digests = |pool: &DescriptorPool| {
        ["GetBook", "Copy", "Fill"].map(|method| tool(pool, method).digests().unwrap())
    };
    assert_eq!(digests(&one), digests(&other));
    let size = BASE64.decode(&grpc(&tool(&one, "Copy")).descriptor_set).unwrap().len();
    assert!(size < 3_000, "{size}");
}

#[test]
fn names_are_stable_and_no_two_the_same() {
    let service = |package: &str, methods: &str| {
        format!("syntax = \"proto3\"; package {package}; message M {{}} service Users {{ {methods} }}")
    };
    let long = "X".repeat(150);
    let first = service(
        "one.v1",
        &format!("rpc GetIt(M) returns (M); rpc Getit(M) returns (M); rpc {long}(M) returns (M);"),
    );
    let two = pool(&[("a.proto", &first), ("b.proto", &service("two", "rpc Add(M) returns (M);"))]);
    let names = |made: Vec<Candidate>| made.into_iter().map(|each| each.name).collect::<Vec<_>>();
    let all = names(made(&two));
    assert_eq!(all[3], "p.two.users.add");
    assert!(all[0].starts_with("p.one.v1.users.getit-") && all[1].starts_with("p.one.v1.users.getit-"));
    assert!(all[2].len() == 128 && all[2].starts_with("p.one.v1.users.xxx"), "{all:?}");
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{all:?}");
    // What is imported of it does not change the names.
    let mut part = reflected(&two);
    part.services.remove(0);
    assert_eq!(names(candidates(&source(), &part).unwrap()), ["p.two.users.add"]);
    for name in &all {
        assert!(name.bytes().all(check::is_name_byte), "{name}");
    }
}

#[test]
fn titles_are_words() {
    for (method, expected) in
        [("GetTool", "Get tool"), ("ListHTTPRoutes", "List HTTP routes"), ("get_it", "get it"), ("Do", "Do")]
    {
        assert_eq!(name::title(method), expected);
    }
}

#[test]
fn a_server_that_repeats_a_credential_gives_nothing() {
    let key = "Sesame_open_42";
    let carried = carrying(Material::ApiKey(key.into()));
    let basic =
        || carrying(Material::Basic(Basic { user: "Aladdin".into(), password: "open the door".into() }));
    let commented = |text: &str| {
        let text = format!("service S {{\n // Not {text} so.\n rpc Do(M) returns (M);\n}} message M {{}}");
        reflected(&pool_of(&text))
    };
    let named = reflected(&pool_of(&format!(
        "service S {{ rpc Do({key}) returns (M); }} message {key} {{}} message M {{}}"
    )));
    let mut unreadable = commented("");
    unreadable.services[0].found = Err(format!("who is {key}?"));
    let mut listed = commented("");
    listed.listed.push(key.to_owned());
    let pair = "Aladdin:open the door";
    for (index, (carried, said)) in [
        (&carried, commented(key)),
        (&carried, commented(&hex::encode(key))),
        (&carried, commented(&hex::encode_upper(key))),
        (&carried, commented(&BASE64.encode(format!("x{key}")))),
        (&carried, named),
        (&carried, unreadable),
        (&carried, listed),
        (&basic(), commented(&BASE64.encode(pair))),
        (&basic(), commented(pair)),
        (&basic(), commented(&hex::encode(pair))),
        // It stands on two lines, and on one in the description.
        (&basic(), commented("open\n // the door")),
    ]
    .into_iter()
    .enumerate()
    {
        let error = take(&source(), carried, &said).expect_err(&index.to_string()).to_string();
        assert!(error.contains("repeats a credential") && !error.contains(key), "{index}: {error}");
    }
    for carried in [&carried, &basic(), &carrying(Material::ApiKey("S".into()))] {
        assert_eq!(take(&source(), carried, &commented("open")).unwrap().len(), 1);
    }
    let asked = Source { services: vec!["a.Nobody".into()], ..source() };
    let told = take(&asked, &carried, &commented("")).unwrap_err().to_string();
    assert!(told.contains("services[0]") && told.contains("a.S"), "{told}");
}

#[test]
fn no_failure_tells_what_was_carried() {
    use ::grpc::Error as Failure;
    let carried = carrying(Material::ApiKey("Sesame_open_42".into()));
    let said = || format!("no Sesame_open_42 and no {}", BASE64.encode("Sesame_open_42"));
    for error in [
        Failure::Address(said()),
        Failure::Descriptors(said()),
        Failure::Security(said()),
        Failure::Answer(said()),
        Failure::Broken(said()),
    ] {
        let told = failure("http://h", &carried, &error).to_string();
        assert!(told.contains("no *** and no ***"), "{told}");
    }
}

#[test]
fn words_are_cut_when_nothing_secret_is_in_them_any_more() {
    let key = "Qesame_open_42";
    let carried = carrying(Material::ApiKey(key.into()));
    // The secret lies over every place at which the words could be cut.
    for before in 440..640 {
        let message = format!("{} {key} {}", "x".repeat(before), "y".repeat(800));
        let (retry_after, is_final) = (None, false);
        let refusal = ::grpc::Refusal { code: 7, message, retry_after, is_final };
        let told = failure("http://h", &carried, &::grpc::Error::Status(refusal)).to_string();
        assert!(!told.contains('Q') && told.ends_with('…') && told.chars().count() < 700, "{told}");
        let is_whole = "the server answered PERMISSION_DENIED: ".len() + before + " ***".len() <= MAX_REASON;
        assert_eq!(told.contains("***"), is_whole, "{before}: {told}");
    }
}

#[test]
fn what_a_server_has_too_much_of_is_not_built() {
    let refusal = |source: &Source, pool: &DescriptorPool| {
        candidates(source, &reflected(pool)).unwrap_err().to_string()
    };
    let methods = |count: usize| {
        let all = joined(0..count, |n| format!("rpc M{n}(M) returns (M);"));
        pool_of(&format!("message M {{}} service S {{ {all} }}"))
    };
    let told = refusal(&source(), &methods(10_001));
    assert!(told.contains("10001") && told.contains("10000"), "{told}");
    let metadata = (0..60).map(|n| (format!("x-{n}"), "v".repeat(4_096))).collect();
    let told = refusal(&Source { metadata, ..source() }, &methods(600));
    assert!(told.contains("bytes together"), "{told}");
}

#[test]
fn a_method_too_large_costs_no_other() {
    let said = |text: &str| {
        let service = "service S { rpc Large(Large) returns (M); rpc Small(M) returns (M); } message M {}";
        let made = made(&pool(&[("a.proto", &format!("syntax = \"proto3\"; package a; {service} {text}"))]));
        assert!(made[1].proposal.is_ok());
        made[0].proposal.clone().map(|_| ()).unwrap_err()
    };
    let fields = |count: usize| joined(0..count, |n| format!("int32 f{n} = {};", n + 1));
    let told = said(&format!("message Large {{ {} }}", fields(15_000)));
    assert!(told.contains("schema of more than 262144 bytes"), "{told}");
    let values = joined(0..20_000, |n| format!("VALUE_{n:08} = {n};"));
    let told = said(&format!("message Large {{ E e = 1; }} enum E {{ {values} }}"));
    assert!(told.contains("schema of more than 262144 bytes"), "{told}");
}

#[test]
fn a_type_that_only_has_the_name_of_a_small_one_is_bounded_too() {
    let long = "f".repeat(1_000);
    let fields = joined(1..1_101, |n| format!("int32 {long}{n} = {n};"));
    let text = format!(
        "syntax = \"proto3\"; package google.protobuf; message Timestamp {{ {fields} }} message M {{ Timestamp at = 1; }} \
         service S {{ rpc Do(M) returns (M); }}"
    );
    let made = made(&pool(&[("a.proto", &text)]));
    let told = made[0].proposal.clone().map(|_| ()).unwrap_err();
    assert!(told.contains("more than 1048576 bytes"), "{told}");
}

#[test]
fn a_bad_method_costs_no_other_and_what_is_asked_for_must_be_there() {
    let text = "import \"google/protobuf/wrappers.proto\"; message M {}\n\
                service S { rpc Bad(google.protobuf.StringValue) returns (M); rpc Good(M) returns (M); }";
    let pool = pool_of(text);
    let made = made(&pool);
    assert!(made[0].proposal.as_ref().unwrap_err().contains("google.protobuf.StringValue"));
    assert!(made[1].proposal.is_ok());
    let only = |methods: &[&str]| {
        let methods = methods.iter().map(ToString::to_string).collect();
        candidates(&Source { methods, ..source() }, &reflected(&pool))
    };
    assert_eq!(only(&["Good"]).unwrap().len(), 1);
    assert_eq!(only(&["a.S/Bad", "Good"]).unwrap().len(), 2);
    let Err(error) = only(&["None"]) else { panic!("there is no such method") };
    assert!(error.to_string().contains("methods[0]") && error.to_string().contains("a.S/Good"), "{error}");
}

#[test]
fn metadata_and_credentials_are_checked() {
    let wrong = |source: Source| checked(&source).unwrap_err().to_string();
    let with =
        |name: &str, value: &str| Source { metadata: [(name.into(), value.into())].into(), ..source() };
    assert!(checked(&with("x-tenant", "a")).is_ok() && checked(&with("x-bin", "AQ==")).is_ok());
    for (name, value, says) in [
        ("X-Upper", "a", "a-z"),
        ("grpc-timeout", "1S", "sets"),
        ("te", "a", "sets"),
        ("authorization", "Bearer x", "credential"),
        ("x-a", "a\nb", "ASCII"),
        ("x-bin", "?", "base64"),
    ] {
        let told = wrong(with(name, value));
        assert!(told.contains(says), "{name}: {told}");
        assert!(value.len() < 5 || !told.contains(value), "{told}");
    }
    let place = |place| {
        let used = CredentialUse { credential: "key".into(), place, prefix: String::new() };
        checked(&Source { credentials: vec![used], ..source() })
    };
    use crate::definition::CredentialPlace::{Header, Query};
    assert!(place(None).is_ok() && place(Some(Header("x-api-key".into()))).is_ok());
    assert!(place(Some(Query("key".into()))).unwrap_err().to_string().contains("credentials[0]"));
    for (endpoint, says) in [
        ("127.0.0.1:1", "absolute"),
        ("ftp://a", "scheme"),
        ("http://u:p@a", "user"),
        ("https://a/b", "path"),
    ] {
        let told = wrong(Source { endpoint: endpoint.into(), ..source() });
        assert!(told.contains("endpoint") && told.contains(says), "{told}");
    }
    let spelled = checked(&Source { endpoint: "HTTP://127.0.0.1:80/".into(), ..source() }).unwrap();
    assert_eq!(spelled, "http://127.0.0.1");
}
