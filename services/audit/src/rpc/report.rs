//! Reports on the wire.

use std::pin::Pin;

use ::rpc::{Call, status};
use chrono::Utc;
use futures_util::{Stream, StreamExt};
use proto::audit::v1::{Framework as Wire, GenerateReportRequest, GenerateReportResponse, ReportFormat};
use tonic::{Request, Response, Status};
use trail::report::{Format, Framework};

use super::{Service, time};
use crate::{
    Error,
    report::{Asked, Part},
};

/// What whoever asks for a report is sent.
pub(super) type Contents = Pin<Box<dyn Stream<Item = Result<GenerateReportResponse, Status>> + Send>>;

pub(super) async fn generate_report(
    service: &Service,
    request: Request<GenerateReportRequest>,
) -> Result<Response<Contents>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let asked = asked(request.into_inner()).map_err(|error| status(&error))?;
    let parts = service.reports.generate(&call.caller, asked).await.map_err(|error| status(&error))?;
    let contents = parts.map(|part| part.map(message).map_err(|error| status(&error)));
    Ok(Response::new(Box::pin(contents)))
}

fn asked(request: GenerateReportRequest) -> Result<Asked, Error> {
    let framework = framework(request.framework)?;
    let format = match ReportFormat::try_from(request.format) {
        Ok(ReportFormat::Unspecified | ReportFormat::Jsonl) => Format::Jsonl,
        Ok(ReportFormat::Csv) => Format::Csv,
        Ok(ReportFormat::Html) => Format::Html,
        Err(_) => return Err(Error::invalid("format", "is none that this service writes")),
    };
    let (start, end) = (time("start_time", request.start_time)?, time("end_time", request.end_time)?);
    Asked { framework, start, end, user: request.user, format }.check(Utc::now())
}

fn framework(number: i32) -> Result<Framework, Error> {
    match Wire::try_from(number) {
        Ok(Wire::GdprAccess) => Ok(Framework::GdprAccess),
        Ok(Wire::GdprErasure) => Ok(Framework::GdprErasure),
        Ok(Wire::GdprProcessing) => Ok(Framework::GdprProcessing),
        Ok(Wire::HipaaAuditControls) => Ok(Framework::HipaaAuditControls),
        Ok(Wire::HipaaDisclosures) => Ok(Framework::HipaaDisclosures),
        Ok(Wire::Soc2Cc7) => Ok(Framework::Soc2Cc7),
        Ok(Wire::EuAiActRecords) => Ok(Framework::EuAiActRecords),
        Ok(Wire::Unspecified) => Err(Error::invalid("framework", "is not set: say for whom the report is")),
        Err(_) => Err(Error::invalid("framework", "is none that this service has reports for")),
    }
}

fn message(part: Part) -> GenerateReportResponse {
    GenerateReportResponse { content: part.content, rows: i64::try_from(part.rows).unwrap_or(i64::MAX) }
}
