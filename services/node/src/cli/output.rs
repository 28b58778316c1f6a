//! Where commands write: standard output and error, for people or as JSON.
//!
//! Every write can fail and says so: a closed pipe ends the command, it never panics.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use prost::{Message, Name};
use serde_json::Value;

use super::{
    error::{Error, Report},
    json,
};

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Tables for people.
    #[default]
    Table,
    /// Canonical proto JSON of the response, with the contract's field names.
    Json,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    Plain,
    /// All is well.
    Good,
    /// Look at it.
    Warn,
    /// Something failed.
    Bad,
    /// Less important.
    Dim,
    /// A heading.
    Bold,
}

/// Whether text may be coloured.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Colours are wanted.
    pub colour: bool,
}

impl Style {
    /// The text in the colour of its tone.
    pub fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Bold => "1",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What a view must know of its reader.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Colours.
    pub style: Style,
    /// Columns of the terminal; `None` when it is none: then nothing is wrapped.
    pub width: Option<u16>,
    /// The present.
    pub now: DateTime<Utc>,
}

/// Standard output and error of one command.
pub struct Output {
    /// How answers are written.
    pub format: Format,
    view: View,
    error_style: Style,
    is_terminal: bool,
    out: Box<dyn Write>,
    err: Box<dyn Write>,
}

impl Output {
    /// The process's own.
    pub fn standard(format: Format) -> Self {
        // NO_COLOR is the reader's taste, as TERM is, and no configuration of ours: see no-color.org.
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let is_terminal = io::stdout().is_terminal();
        let width = if is_terminal { comfy_table::Table::new().width() } else { None };
        Self {
            format,
            view: View { style: Style { colour: wanted && is_terminal }, width, now: Utc::now() },
            error_style: Style { colour: wanted && io::stderr().is_terminal() },
            is_terminal,
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
        }
    }

    /// One whose writes go elsewhere, without a terminal.
    #[cfg(test)]
    pub fn to(format: Format, out: Box<dyn Write>, err: Box<dyn Write>) -> Self {
        let style = Style { colour: false };
        let view = View { style, width: None, now: Utc::now() };
        Self { format, view, error_style: style, is_terminal: false, out, err }
    }

    /// Whether answers are written as JSON.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes a response as JSON, or as its view.
    pub fn show<M, F>(&mut self, message: &M, view: F) -> Result<(), Error>
    where
        M: Message + Name,
        F: FnOnce(View) -> String,
    {
        if self.is_json() { self.json(&json::of(message)?) } else { self.text(&view(self.view)) }
    }

    /// Writes a view.
    pub fn view(&mut self, view: impl FnOnce(View) -> String) -> Result<(), Error> {
        let text = view(self.view);
        self.text(&text)
    }

    /// Tells an error, to standard error.
    pub fn report(&mut self, report: &Report) -> Result<(), Error> {
        if self.is_json() {
            let text = serde_json::to_string_pretty(&report.to_json()).map_err(anyhow::Error::from)?;
            return Ok(write_line(&mut self.err, &text)?);
        }
        self.aside(|style| report.to_text(style))
    }

    /// Writes JSON.
    pub fn json(&mut self, value: &Value) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
        self.text(&text)
    }

    /// Writes text and a line feed, unless it ends with one.
    pub fn text(&mut self, text: &str) -> Result<(), Error> {
        Ok(write_line(&mut self.out, text)?)
    }

    /// Writes bytes as they are: a part of a file.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Writes what a tool said. On a terminal, control characters are shown and not obeyed.
    pub fn untrusted(&mut self, text: &str) -> Result<(), Error> {
        let text = if self.is_terminal { super::human::visible(text) } else { text.to_owned() };
        self.text(&text)
    }

    /// Writes beside the answer, to standard error, dimmed.
    pub fn note(&mut self, text: &str) -> Result<(), Error> {
        let text = self.error_style.paint(&super::human::visible(text), Tone::Dim);
        Ok(write_line(&mut self.err, &text)?)
    }

    /// Tells people that a list goes on.
    pub fn more(&mut self, next_page_token: &str) -> Result<(), Error> {
        if next_page_token.is_empty() || self.is_json() {
            return Ok(());
        }
        self.note("there is more; see it with a higher --limit")
    }

    /// Writes beside the answer, to standard error, in colours of the view's own.
    pub fn aside(&mut self, view: impl FnOnce(Style) -> String) -> Result<(), Error> {
        let text = super::human::visible_but_colours(&view(self.error_style));
        Ok(write_line(&mut self.err, &text)?)
    }

    /// Hands everything on.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.out.flush()?;
        Ok(self.err.flush()?)
    }
}

fn write_line(to: &mut dyn Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    if text.ends_with('\n') { Ok(()) } else { to.write_all(b"\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_written_only_where_they_are_wanted() {
        assert_eq!(Style { colour: false }.paint("ok", Tone::Good), "ok");
        assert_eq!(Style { colour: true }.paint("ok", Tone::Good), "\x1b[32mok\x1b[0m");
        assert_eq!(Style { colour: true }.paint("ok", Tone::Plain), "ok");
    }
}
