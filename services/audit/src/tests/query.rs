//! Every filter, alone and with others, against a plain look at all records.

use ::rpc::PageKey;
use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use secrecy::SecretString;
use types::{Caller, Role};
use uuid::Uuid;

use super::{event, journal, records};
use crate::{
    append::Journal,
    payload::Draft,
    query::{first_id_of, query},
    store::{Filter, RecordRow},
};

pub(crate) fn auditor(team: &str) -> Caller {
    let (team, agent) = (team.to_owned(), "auditor".to_owned());
    Caller { team, agent, role: Role::Auditor, service: None, ..Caller::service("x") }
}

pub(crate) fn pages() -> PageKey {
    PageKey::new(&SecretString::from("a secret of thirty-two bytes, or so"))
}

/// An event of this time, with an id of then.
pub(crate) fn event_at(team: &str, agent: &str, at: DateTime<Utc>) -> Draft {
    let mut draft = event(team, agent);
    let random = Uuid::new_v4().as_u64_pair();
    let first = first_id_of(at).as_u64_pair().0;
    draft.record.id = Uuid::from_u64_pair(first | 0x7000 | (random.0 & 0xfff), random.1 | (1 << 63));
    draft.record.event_time = crate::payload::micros(at);
    draft.record.intent_time = Some(draft.record.event_time);
    draft
}

const USERS: [&str; 3] = ["", "ada", "bob"];

/// Events over four months, of which the first has no partition, told of in any order.
async fn filled(database: &Database, journal: &Journal, random: &mut StdRng) -> Vec<RecordRow> {
    let executions: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
    let start = Utc::now() - TimeDelta::days(40);
    for _ in 0..8 {
        let drafts = (0..60).map(|_| {
            let at = start + TimeDelta::seconds(random.random_range(0..100 * 86_400));
            let mut draft = event_at("team", ["a", "b", "c"].choose(random).unwrap(), at);
            let record = &mut draft.record;
            record.tool_name = (*["echo", "shell"].choose(random).unwrap()).into();
            record.task_id = (*["", "t1", "t2"].choose(random).unwrap()).into();
            record.action = (*["tool_invoked", "tool_invoked", "cache_hit", "permission_checked"]
                .choose(random)
                .unwrap())
            .into();
            record.result = (*["success", "success", "failure", "denied"].choose(random).unwrap()).into();
            record.classification = (*["public", "internal", "restricted"].choose(random).unwrap()).into();
            record.execution_id = Some(*executions.choose(random).unwrap());
            draft.payload.user = (*USERS.choose(random).unwrap()).into();
            draft
        });
        journal.append(drafts.collect()).await.unwrap();
    }
    journal.append(vec![event("other", "a")]).await.unwrap();
    let mut all = records(database, "team").await;
    all.sort_by_key(|row| std::cmp::Reverse(row.id));
    all
}

/// A filter that asks for some things, each of which some record has.
fn any_filter(random: &mut StdRng, all: &[RecordRow]) -> (Filter, Option<&'static str>) {
    let of = all.choose(random).unwrap().clone();
    let mut maybe = |rate: f64| random.random_bool(rate);
    let mut filter = Filter {
        agent_id: maybe(0.3).then_some(of.agent_id),
        tool_name: maybe(0.3).then_some(of.tool_name),
        task_id: (maybe(0.2) && !of.task_id.is_empty()).then_some(of.task_id),
        action: maybe(0.3).then_some(of.action),
        result: maybe(0.3).then_some(of.result),
        start_time: maybe(0.3).then_some(of.event_time),
        classification: maybe(0.3).then_some(of.classification),
        subject_id: of.subject_id.filter(|_| maybe(0.2)),
        ..Filter::default()
    };
    // An execution that is as old as its id says has nothing from before it.
    filter.execution_id = of.execution_id.filter(|_| maybe(0.15) && of.event_time > Utc::now());
    if maybe(0.3) {
        filter.end_time = Some(all.choose(random).unwrap().event_time);
    }
    let user = random.random_bool(0.15).then(|| *["ada", "bob", "nobody"].choose(random).unwrap());
    filter.user = user.map(str::to_owned);
    (filter, user)
}

#[allow(clippy::option_option, reason = "no user asked for, and one that nobody knows")]
fn fits(row: &RecordRow, filter: &Filter, user: Option<Option<Uuid>>) -> bool {
    let is = |asked: &Option<String>, value: &str| asked.as_deref().is_none_or(|asked| asked == value);
    is(&filter.agent_id, &row.agent_id)
        && is(&filter.tool_name, &row.tool_name)
        && is(&filter.task_id, &row.task_id)
        && is(&filter.action, &row.action)
        && is(&filter.result, &row.result)
        && is(&filter.classification, &row.classification)
        && filter.execution_id.is_none_or(|id| {
            row.execution_id == Some(id) && row.event_time > Utc::now() - TimeDelta::hours(1)
        })
        && filter.subject_id.is_none_or(|id| row.subject_id == Some(id))
        && filter.start_time.is_none_or(|start| row.event_time >= start)
        && filter.end_time.is_none_or(|end| row.event_time < end)
        && user.is_none_or(|user| user.is_some() && row.subject_id == user)
}

#[tokio::test]
async fn every_filter_gives_what_it_asks_for_once_newest_first_over_all_pages() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let mut random = StdRng::seed_from_u64(7);
    let all = filled(&database, &journal, &mut random).await;
    let (pages, caller) = (pages(), auditor("team"));
    let (mut found, mut asked) = (0, 0);
    for round in 0..250 {
        let (filter, user) =
            if round == 0 { (Filter::default(), None) } else { any_filter(&mut random, &all) };
        let subject = match user {
            None => None,
            Some(user) => Some(journal.subjects.find("team", user).await.unwrap()),
        };
        let expected: Vec<Uuid> =
            all.iter().filter(|row| fits(row, &filter, subject)).map(|row| row.id).collect();
        let (mut got, mut token) = (Vec::new(), String::new());
        let size = random.random_range(1..40);
        loop {
            let page = (size, token.as_str());
            let found =
                query(&database, &pages, &journal.subjects, &caller, filter.clone(), page).await.unwrap();
            assert!(found.rows.len() <= usize::try_from(size).unwrap());
            assert_eq!(found.available_start_time, None, "nothing has ended");
            got.extend(found.rows.into_iter().map(|row| row.id));
            token = found.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(got, expected, "{filter:?}");
        found += got.len();
        asked += usize::from(!got.is_empty());
    }
    assert!(asked > 100 && found > 2_000, "the filters are about something: {asked}, {found}");
}

#[tokio::test]
async fn a_token_is_for_its_filter_and_team_and_a_user_whom_nobody_knows_has_no_events() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    journal.append((0..5).map(|_| event("team", "a")).collect()).await.unwrap();
    let (pages, subjects) = (pages(), &journal.subjects);
    let ask = async |team: &str, filter: &Filter, token: &str| {
        query(&database, &pages, subjects, &auditor(team), filter.clone(), (2, token)).await
    };
    let (all, of_a) = (Filter::default(), Filter { agent_id: Some("a".into()), ..Filter::default() });
    let mut first = ask("team", &all, "").await.unwrap();
    while first.rows.is_empty() {
        first = ask("team", &all, &first.next_page_token).await.unwrap();
    }
    assert!(first.rows.len() <= 2 && !first.next_page_token.is_empty());
    assert!(ask("team", &of_a, &first.next_page_token).await.unwrap_err().to_string().contains("page_token"));
    assert!(ask("other", &all, &first.next_page_token).await.is_err());
    let of_nobody = Filter { user: Some("nobody".into()), ..Filter::default() };
    let none = ask("team", &of_nobody, "").await.unwrap();
    assert!(none.rows.is_empty() && none.next_page_token.is_empty());
}
