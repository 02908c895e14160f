//! Sections as text, as JSON and as a page, of runs just made or saved before.

use crate::cli::{ReportArgs, TurnsArgs};
use crate::compare::Section;
use crate::outcome::Outcome;
use crate::page;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Of saved runs.
pub fn run_report(args: &ReportArgs) -> Result<(), String> {
    show(&read_sections(&args.files)?, &args.only, args.json, args.html.as_deref())
}

/// Of runs just made; fails when one of them did.
pub fn report_turns(sections: &[Section], args: &TurnsArgs) -> Result<(), String> {
    show(sections, &[], args.output.json, args.html.as_deref())
}

fn show(sections: &[Section], only: &[String], as_json: bool, html: Option<&Path>) -> Result<(), String> {
    if as_json {
        println!("{:#}", json!(sections.iter().map(Section::json).collect::<Vec<_>>()));
    } else {
        sections.iter().for_each(|section| print!("{}", section.text(only)));
    }
    if let Some(file) = html {
        fs::write(file, page::page(sections)).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    let failed: Vec<_> = sections.iter().flat_map(|s| s.failures.iter().map(move |why| format!("{}: {why}", s.name))).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("{} runs failed: {}", failed.len(), failed.join("; "))) }
}

fn read_sections(files: &[PathBuf]) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    for file in files {
        read_run(file, &mut sections).map_err(|why| format!("{}: {why}", file.display()))?;
    }
    Ok(sections)
}

fn read_run(file: &Path, sections: &mut Vec<Section>) -> Result<(), String> {
    let text = fs::read_to_string(file).map_err(|e| e.to_string())?;
    let json: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let label = json["server"].as_str();
    let (label, outcome) = label.zip(Outcome::from_json(&json)).ok_or("this is no run that was saved with --json or --save")?;
    let conditions = json["conditions"].as_object().into_iter().flatten();
    let conditions = conditions.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    let name = json["workload"].as_str().unwrap_or_default();
    let at = sections.iter().position(|s| s.name == name).unwrap_or_else(|| {
        sections.push(Section { name: name.to_owned(), ..Section::default() });
        sections.len() - 1
    });
    sections[at].add(label, conditions, outcome);
    Ok(())
}
