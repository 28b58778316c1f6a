//! The arguments that stand in the query, the headers and the cookies of a request. An argument stands in one place
//! only, and must never set what is not its own.

use std::collections::BTreeSet;

use proto::registry::v1::{HttpBinding, HttpLocation as Location, credential_use::Place};
use reqwest::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use url::Url;

use super::{
    faulty, plain,
    styles::{Parameter, encode},
    wrong,
};
use crate::outcome::ToolError;

/// Headers that the connection itself sets.
const RESERVED_HEADERS: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te"];

/// The parameters of a binding.
pub(super) struct Parameters<'a> {
    all: Vec<Parameter<'a>>,
    binding: &'a HttpBinding,
}

impl<'a> Parameters<'a> {
    pub(super) fn of(binding: &'a HttpBinding) -> Result<Self, ToolError> {
        let all: Vec<Parameter<'a>> =
            binding.parameters.iter().map(Parameter::of).collect::<Result<_, _>>()?;
        let mut seen = BTreeSet::new();
        let body = binding.body.iter().map(|body| body.argument.as_str()).filter(|name| !name.is_empty());
        let queried = binding.query_arguments.iter().map(String::as_str);
        for argument in all.iter().map(|parameter| parameter.argument).chain(queried).chain(body) {
            if !seen.insert(argument) {
                return Err(faulty(&format!("argument {argument} stands in two places")));
            }
        }
        Ok(Self { all, binding })
    }

    /// The parameter of a placeholder of the path.
    pub(super) fn in_path(&self, name: &str) -> Option<Parameter<'a>> {
        self.at(Location::Path).find(|parameter| parameter.name == name)
    }

    pub(super) fn names_in_path(&self) -> impl Iterator<Item = &'a str> {
        self.at(Location::Path).map(|parameter| parameter.name)
    }

    /// Every argument that stands anywhere in query, headers, cookies or path, given or not.
    pub(super) fn arguments(&self) -> impl Iterator<Item = &'a str> {
        let queried = self.binding.query_arguments.iter().map(String::as_str);
        self.all.iter().map(|parameter| parameter.argument).chain(queried)
    }

    /// Whether an argument of this name stands in anything but a plain placeholder.
    pub(super) fn stands_elsewhere(&self, argument: &str) -> bool {
        let mut body = self.binding.body.iter().map(|body| body.argument.as_str());
        self.arguments().any(|placed| placed == argument) || body.any(|placed| placed == argument)
    }

    fn at(&self, location: Location) -> impl Iterator<Item = Parameter<'a>> {
        self.all.iter().copied().filter(move |parameter| parameter.location == location)
    }

    /// Adds the query parameters to an address.
    pub(super) fn add_query(&self, url: &mut Url, arguments: &Map<String, Value>) -> Result<(), ToolError> {
        let fixed = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
        for name in &self.binding.query_arguments {
            if let Some(value) = arguments.get(name) {
                url.query_pairs_mut().append_pair(name, &plain(value));
            }
        }
        let credentials = self.binding.credentials.iter().filter_map(|used| match &used.place {
            Some(Place::Query(name)) => Some(name.clone()),
            _ => None,
        });
        let taken = self.taken(Location::Query, fixed, credentials);
        let pairs = self.pairs(Location::Query, &taken, arguments)?;
        if !pairs.is_empty() {
            let before = url.query().filter(|query| !query.is_empty()).map(|query| format!("{query}&"));
            url.set_query(Some(&format!("{}{}", before.unwrap_or_default(), pairs.join("&"))));
        }
        Ok(())
    }

    /// Sets the headers that are parameters, and adds the cookies to the definition's own.
    pub(super) fn set_headers(
        &self,
        headers: &mut HeaderMap,
        fixed_cookies: Option<&HeaderValue>,
        arguments: &Map<String, Value>,
    ) -> Result<(), ToolError> {
        for parameter in self.at(Location::Header) {
            let name = HeaderName::try_from(parameter.name).ok();
            let name = name.filter(|name| !RESERVED_HEADERS.contains(&name.as_str()));
            let name = name.ok_or_else(|| faulty(&format!("parameter {}: not a header", parameter.name)))?;
            let value = arguments.get(parameter.argument).unwrap_or(&Value::Null);
            if let Some(text) = parameter.in_header(value)? {
                let value = HeaderValue::try_from(text);
                let unfit = |_| wrong(parameter.argument, "holds a control character, which no header may");
                headers.insert(name, value.map_err(unfit)?);
            }
        }
        let fixed = fixed_cookies.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if let Some(cookies) = self.cookies(fixed, arguments)? {
            headers.insert(COOKIE, HeaderValue::try_from(cookies).map_err(|_| faulty("cookie"))?);
        }
        Ok(())
    }

    /// The cookies, after the fixed ones; `None` where there is none but these.
    fn cookies(&self, fixed: &str, arguments: &Map<String, Value>) -> Result<Option<String>, ToolError> {
        let names = fixed.split(';').filter_map(|pair| Some(pair.split_once('=')?.0.trim().to_owned()));
        let credentials = self.binding.credentials.iter().filter_map(|used| match &used.place {
            Some(Place::Cookie(name)) => Some(name.clone()),
            _ => None,
        });
        let taken = self.taken(Location::Cookie, names.collect(), credentials);
        let pairs = self.pairs(Location::Cookie, &taken, arguments)?;
        if pairs.is_empty() {
            return Ok(None);
        }
        let fixed = Some(fixed.to_owned()).filter(|fixed| !fixed.is_empty());
        Ok(Some(fixed.into_iter().chain(pairs).collect::<Vec<_>>().join("; ")))
    }

    /// The names that no member of an exploded object may have.
    fn taken(
        &self,
        location: Location,
        fixed: BTreeSet<String>,
        credentials: impl Iterator<Item = String>,
    ) -> BTreeSet<String> {
        let queried = self.binding.query_arguments.iter().filter(|_| location == Location::Query).cloned();
        let placed = self.at(location).map(|parameter| parameter.name.to_owned());
        fixed.into_iter().chain(credentials).chain(queried).chain(placed).collect()
    }

    fn pairs(
        &self,
        location: Location,
        taken: &BTreeSet<String>,
        arguments: &Map<String, Value>,
    ) -> Result<Vec<String>, ToolError> {
        let mut pairs = Vec::new();
        for parameter in self.at(location) {
            let value = arguments.get(parameter.argument).unwrap_or(&Value::Null);
            for (name, value) in parameter.pairs(value)? {
                if name != parameter.name && taken.contains(&name) {
                    let what = format!("may not have the member {name:?}, which is a parameter of its own");
                    return Err(wrong(parameter.argument, &what));
                }
                pairs.push(format!("{}={value}", encode(&name)));
            }
        }
        Ok(pairs)
    }
}
