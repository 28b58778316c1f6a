//! ListRecommendations on the wire.

use ::rpc::Call;
use proto::{
    selector::v1::{ListRecommendationsRequest, ListRecommendationsResponse, Recommendation},
    types::v1::Category,
};

use super::{Service, effectiveness::trend};
use crate::{
    Error,
    learn::{self, recommend},
};

/// Tools a category when the request does not say.
const DEFAULT_TOOLS: usize = 3;
/// Most of them.
const MAX_TOOLS: usize = 20;

pub(super) async fn list(
    service: &Service,
    call: Call,
    request: ListRecommendationsRequest,
) -> Result<ListRecommendationsResponse, Error> {
    let category = Category::try_from(request.category)
        .map_err(|_| Error::invalid("category", "is not a value of its enum"))?;
    let per_category = match usize::try_from(request.per_category) {
        Ok(0) => DEFAULT_TOOLS,
        Ok(asked) if asked <= MAX_TOOLS => asked,
        _ => {
            let description = format!("must be 0 (for {DEFAULT_TOOLS}) to {MAX_TOOLS}");
            return Err(Error::invalid("per_category", description));
        }
    };
    let (_, weights) = service.policies.of(&call.caller.team);
    let place = (&service.learned, &service.selector.indexes, &service.selector.permissions);
    let best = recommend(place, &call, weights, category.into(), per_category).await?;
    Ok(ListRecommendationsResponse { recommendations: best.into_iter().map(told).collect() })
}

fn told(best: learn::Recommendation) -> Recommendation {
    Recommendation {
        category: Category::from(best.category).into(),
        rank: i32::try_from(best.rank).unwrap_or(i32::MAX),
        tool_name: best.tool,
        suitability_score: best.suitability,
        executions: best.executions,
        reason: best.reason,
        trend: trend(best.trend.direction).into(),
    }
}
