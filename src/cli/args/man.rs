//! The command `hydrant man`: makes man pages from the clap definitions and the texts of the help.

use crate::cli::args::examples::{EXIT, HelpText, TOP};
use crate::cli::args::help;
use crate::cli::ui::failure::Failure;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::io;

/// The man page of the command `command`, or of the program if it is None, in roff (the input format of `man`).
///
/// # Errors
/// There is no such command.
pub fn page(command: Option<&str>) -> Result<String, Failure> {
    let rendered = match command {
        None => rendered(help::program(), "hydrant", &TOP),
        Some(name) => {
            let (command, text) = help::definition(name).ok_or_else(|| help::unknown(name))?;
            rendered(command.bin_name(format!("hydrant {name}")), &format!("hydrant-{name}"), text)
        }
    };
    let page = rendered.map_err(|e| Failure::internal(&format!("a man page cannot be rendered: {e}")))?;
    String::from_utf8(page).map_err(|_| Failure::internal("a man page is not UTF-8"))
}

/// Renders the man page of `command` with the given title and the texts around its flags.
fn rendered(command: Command, title: &str, text: &HelpText) -> io::Result<Vec<u8>> {
    let commands = command.get_subcommands().next().is_some();
    let man =
        Man::new(command.display_name(title)).title(title.to_uppercase()).source(help::version()).manual("Hydrant");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    paragraph(text.description).to_writer(&mut out)?;
    let exit = text.ending.strip_prefix(EXIT);
    if exit.is_none() {
        paragraph(text.ending).to_writer(&mut out)?;
    }
    if commands {
        man.render_subcommands_section(&mut out)?;
    } else {
        paragraph("A flag may be written with one dash or with two.").to_writer(&mut out)?;
        man.render_options_section(&mut out)?;
    }
    section("EXAMPLES", text.examples, true).to_writer(&mut out)?;
    if let Some(exit) = exit {
        section("EXIT STATUS", exit, false).to_writer(&mut out)?;
    }
    Ok(out)
}

/// Makes a paragraph of a man page, in roff, from `text`. If `text` is empty, there is no paragraph.
fn paragraph(text: &str) -> Roff {
    let mut roff = Roff::new();
    if !text.is_empty() {
        roff.control("PP", []);
        text.lines().for_each(|line| {
            roff.text([roman(line)]);
        });
    }
    roff
}

/// A roff section with a heading and `text`. `verbatim` keeps the text's line breaks and spaces; otherwise its
/// lines are joined and filled.
fn section(heading: &str, text: &str, verbatim: bool) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    if verbatim {
        roff.control("nf", []);
    }
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    if verbatim {
        roff.control("fi", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn every_page_has_its_sections() {
        let top = page(None).unwrap();
        assert!(top.contains(".TH HYDRANT 1 "), "{top}");
        for name in help::COMMANDS {
            assert!(top.contains(&format!("hydrant\\-{}(1)", name.replace('-', "\\-"))), "{name}:\n{top}");
            let page = page(Some(name)).unwrap();
            let title = format!(".TH HYDRANT-{} 1 ", name.to_uppercase());
            for part in [title.as_str(), ".SH NAME", ".SH SYNOPSIS", ".SH FLAGS", ".SH EXAMPLES", ".SH \"EXIT STATUS\""]
            {
                assert!(page.contains(part), "{name} has no {part}:\n{page}");
            }
        }
        assert_eq!(page(Some("nothing")).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn man_formats_every_page_without_a_warning() {
        if Command::new("man").arg("--version").output().is_err() {
            eprintln!("skipped: man is not installed");
            return;
        }
        for name in help::COMMANDS.into_iter().map(Some).chain([None]) {
            let mut man = Command::new("man")
                .args(["--warnings", "-l", "-"])
                .env_clear()
                .envs([
                    ("PATH", std::env::var("PATH").unwrap()),
                    ("LC_ALL", "C.UTF-8".into()),
                    ("MANWIDTH", "80".into()),
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            man.stdin.take().unwrap().write_all(page(name).unwrap().as_bytes()).unwrap();
            let shown = man.wait_with_output().unwrap();
            let (text, warnings) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
            assert!(shown.status.success() && warnings.is_empty(), "{name:?}: {warnings}");
            if text.contains("minimized") {
                eprintln!("skipped: this system's man shows no pages");
                return;
            }
            assert!(text.contains("EXAMPLES"), "{name:?}: {text}");
        }
    }
}
