//! ListSelections on the wire.

use ::rpc::Call;
use proto::{
    selector::v1::{
        Feedback, ListSelectionsRequest, ListSelectionsResponse, LoggedSelection, Mode, RankedTool,
    },
    types::v1 as wire,
};
use types::Category;

use super::{Service, count, time, timestamp};
use crate::{
    Error,
    selections::{Listed, list as list_selections},
    store::{FeedbackRow, LoggedRow, Offered, SelectionFilter},
};

pub(super) async fn list(
    service: &Service,
    call: Call,
    request: ListSelectionsRequest,
) -> Result<ListSelectionsResponse, Error> {
    let page = (request.page_size, request.page_token.clone());
    let filter = filter(request)?;
    let place = (&service.database, &service.pages);
    let listed = list_selections(place, &call.caller, filter, (page.0, &page.1)).await?;
    Ok(told(listed))
}

fn filter(request: ListSelectionsRequest) -> Result<SelectionFilter, Error> {
    let set = |field: &str, text: String| {
        if text.contains('\0') {
            return Err(Error::invalid(field, "must not contain NUL"));
        }
        Ok(Some(text).filter(|text| !text.is_empty()))
    };
    Ok(SelectionFilter {
        agent_id: set("agent_id", request.agent_id)?,
        tool_name: set("tool_name", request.tool_name)?,
        task_id: set("task_id", request.task_id)?,
        followed: request.followed,
        start_time: request.start_time.map(|at| time("start_time", Some(at))).transpose()?,
        end_time: request.end_time.map(|at| time("end_time", Some(at))).transpose()?,
    })
}

fn told(listed: Listed) -> ListSelectionsResponse {
    let mut feedback = listed.feedback;
    let selections = listed.rows.into_iter().map(|row| {
        let of_this = feedback.extract_if(.., |given| given.selection_id == row.id).map(given).collect();
        LoggedSelection { feedback: of_this, ..logged(row) }
    });
    ListSelectionsResponse { selections: selections.collect(), next_page_token: listed.next_page_token }
}

fn logged(row: LoggedRow) -> LoggedSelection {
    let offers = row.ranked.0;
    let followed = row.followed_tool.unwrap_or_default();
    let rank = offers.iter().position(|offer| offer.name == followed).map_or(0, |place| count(place + 1));
    let category = row.task_category.parse::<Category>().ok();
    LoggedSelection {
        selection_id: row.id.to_string(),
        agent_id: row.agent_id,
        task_id: row.task_id,
        task_digest: row.task_digest,
        task_length: row.task_length,
        task_category: category.map_or(0, |category| wire::Category::from(category).into()),
        create_time: Some(timestamp(row.create_time)),
        offered: offers.into_iter().map(offered).collect(),
        candidate_count: row.candidate_count,
        confidence: row.confidence,
        mode: mode(&row.mode).into(),
        policy_version: row.policy_version,
        explored: row.explored,
        followed_tool: followed,
        followed_rank: rank,
        execution_id: row.execution_id.map(|id| id.to_string()).unwrap_or_default(),
        succeeded: row.succeeded,
        feedback: Vec::new(),
    }
}

fn mode(name: &str) -> Mode {
    match name {
        "full" => Mode::Full,
        "static" => Mode::Static,
        _ => Mode::Lexical,
    }
}

fn offered(offer: Offered) -> RankedTool {
    RankedTool {
        name: offer.name,
        match_score: offer.matching,
        suitability_score: offer.suitability,
        combined_score: offer.combined,
        capability_score: offer.capability,
        text_score: offer.text,
        semantic_score: offer.semantic,
        signals: offer.signals.into_iter().collect(),
        pinned: offer.pinned,
        ..RankedTool::default()
    }
}

fn given(row: FeedbackRow) -> Feedback {
    Feedback {
        feedback_id: row.id.to_string(),
        tool_name: row.tool_name,
        quality: row.quality,
        comment: row.comment,
        agent_id: row.agent_id,
        by_person: row.by_person,
        update_time: Some(timestamp(row.update_time)),
    }
}
