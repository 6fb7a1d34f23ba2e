//! Charts as images in terminals that support them: kitty's graphics protocol and iTerm2's inline
//! images. Crates that write these bring decoders
//! for all image formats; here the bytes are a PNG already.

use crate::plot::Chart;
use crate::Result;
use base64::prelude::{Engine, BASE64_STANDARD};

/// How a terminal shows images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Kitty,
    Iterm,
}

impl Protocol {
    /// The protocol of this terminal, by the environment variables that `variable` returns.
    pub fn of_terminal(variable: impl Fn(&str) -> Option<String>) -> Option<Protocol> {
        let says = |name: &str, wanted: &str| variable(name).is_some_and(|value| value == wanted);
        // A terminal multiplexer passes neither on.
        if variable("TMUX").is_some() || variable("STY").is_some() {
            return None;
        }
        let kitty =
            variable("KITTY_WINDOW_ID").is_some() || says("TERM", "xterm-kitty") || says("TERM_PROGRAM", "ghostty");
        let iterm = says("TERM_PROGRAM", "iTerm.app") || says("TERM_PROGRAM", "WezTerm");
        match (kitty, iterm) {
            (true, _) => Some(Protocol::Kitty),
            (_, true) => Some(Protocol::Iterm),
            _ => None,
        }
    }
}

/// The escape sequence that makes the terminal draw the chart.
pub fn of(chart: &Chart, protocol: Protocol) -> Result<String> {
    let png = chart.to_png(chart.width, chart.height, 1.0)?;
    let data = BASE64_STANDARD.encode(&png);
    Ok(match protocol {
        Protocol::Kitty => kitty(&data),
        Protocol::Iterm => format!("\x1b]1337;File=inline=1;size={}:{data}\x07\n", png.len()),
    })
}

/// In pieces of at most 4096 bytes; all but the last say that more follows.
fn kitty(data: &str) -> String {
    const PIECE: usize = 4096;
    let pieces = data.len().div_ceil(PIECE);
    let piece = |(at, text): (usize, &[u8])| {
        let control = if at == 0 { "f=100,a=T," } else { "" };
        let more = u8::from(at + 1 < pieces);
        format!("\x1b_G{control}m={more};{}\x1b\\", String::from_utf8_lossy(text))
    };
    data.as_bytes().chunks(PIECE).enumerate().map(piece).collect::<String>() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kitty_gets_pieces() {
        let text = kitty(&"A".repeat(5000));
        assert!(text.starts_with("\x1b_Gf=100,a=T,m=1;AAAA") && text.contains("\x1b_Gm=0;"), "{text}");
    }

    #[test]
    fn terminals_are_recognised_by_their_variables() {
        let of = |pairs: &[(&str, &str)]| {
            Protocol::of_terminal(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
        };
        assert_eq!(of(&[("TERM", "xterm-kitty")]), Some(Protocol::Kitty));
        assert_eq!(of(&[("TERM_PROGRAM", "iTerm.app")]), Some(Protocol::Iterm));
        assert_eq!(of(&[("TERM", "xterm-kitty"), ("TMUX", "1")]), None);
        assert_eq!(of(&[("TERM", "xterm-256color")]), None);
    }
}
