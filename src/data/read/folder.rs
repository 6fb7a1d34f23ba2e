//! Finds the data files of a path, folder or pattern, by split, and which of their rows are wanted.

use super::format::{Format, FORMATS};
use super::options::{LoadOptions, CALL};
use super::slices::Slice;
use crate::error::{Error, Kind, Result};
use crate::hub::dataset::{
    below, ensure_one_configuration, is_cached_copy, is_data, saved_shards, split_named, splits_of, Pattern,
};
use crate::hub::{self, FetchObserver, Hub};
use crate::options::Refusal;
use crate::suggest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The files of the wanted splits, and which of their rows are wanted.
#[derive(Debug, Clone)]
pub struct Splits {
    parts: Vec<(Vec<PathBuf>, Slice)>,
}

impl Splits {
    /// The splits that the option `split` names, from files by split. `source` is what messages call the files.
    pub fn choose(files: &BTreeMap<String, Vec<PathBuf>>, split: Option<&str>, source: &str) -> Result<Self> {
        let known = || files.keys().map(String::as_str);
        let slices = match split {
            Some(text) => Slice::parse(text)?,
            None => match files.len() {
                1 => known().map(Slice::full).collect(),
                _ if files.contains_key("train") => vec![Slice::full("train")],
                _ => {
                    let names: Vec<&str> = known().collect();
                    return Err(Error::input(format!("{source} has the splits {}, and no train", names.join(", ")))
                        .with_hint(format!("choose one: #{{ split: \"{}\" }}", names.first().unwrap_or(&"test"))));
                }
            },
        };
        let of = |slice: Slice| -> Result<Vec<(Vec<PathBuf>, Slice)>> {
            if slice.split == "all" && !files.contains_key("all") {
                return Ok(files.values().map(|paths| (paths.clone(), slice.clone())).collect());
            }
            let by_name = files.get(&slice.split);
            let paths = by_name.or_else(|| files.get(split_named(&slice.split)?)).ok_or_else(|| {
                Error::input(format!("{source} has no split `{}`", slice.split))
                    .with_hint(suggest::hint(&slice.split, known()))
            })?;
            Ok(vec![(paths.clone(), slice)])
        };
        let parts: Result<Vec<Vec<_>>> = slices.into_iter().map(of).collect();
        Ok(Splits { parts: parts?.concat() })
    }

    pub(super) fn parts(&self) -> &[(Vec<PathBuf>, Slice)] {
        &self.parts
    }

    /// The files to read, each once.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for path in self.parts.iter().flat_map(|(paths, _)| paths) {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        paths
    }
}

/// Locates files, the data files of a folder, or those of a data set of the hub, which are fetched.
pub fn locate_or_fetch(names: &[String], options: &LoadOptions, observer: &mut dyn FetchObserver) -> Result<Splits> {
    names.iter().try_for_each(|name| hub::ensure_may_load(name))?;
    let paths: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
    match (names, &paths[..]) {
        ([name], [path]) if !path.exists() && !name.contains(['*', '?', '[']) => fetch(name, options, observer),
        ([], _) => Err(Error::input(format!("{CALL}: expected the names of files, found an empty array"))),
        (_, [path, ..]) if options.revision.is_some() => {
            let path_text = format!("the path `{}`", path.display());
            let refusal = Refusal::new("revision", "a name of the hub", path_text);
            Err(refusal.with_hint("leave it out: files on this machine have no revisions").error(CALL))
        }
        _ => locate(&paths, options),
    }
}

fn fetch(name: &str, options: &LoadOptions, observer: &mut dyn FetchObserver) -> Result<Splits> {
    let named = options.revision.as_ref().map_or(name.to_owned(), |revision| format!("{name}@{revision}"));
    // A repository may hold the same rows in several formats.
    let by_format = options.format.map(|format| format!("**.{}{{,.gz,.bz2,.xz,.zst,.zstd}}", format.extension()));
    let pattern = options.files.as_deref().or(by_format.as_deref());
    let dataset = hub::resolve_dataset(&named, pattern, &Hub::from_env()?, observer)?;
    Splits::choose(&dataset.splits, options.split.as_deref(), &format!("the data set `{name}`"))
}

/// Locates files, the data files of one folder, or the files that match a pattern.
pub fn locate(paths: &[PathBuf], options: &LoadOptions) -> Result<Splits> {
    let paths = expand_patterns(paths)?;
    if let [folder] = &paths[..] {
        if folder.is_dir() {
            return in_folder(folder, options);
        }
    }
    if let Some(folder) = paths.iter().find(|path| path.is_dir()) {
        return Err(Error::input(format!("expected files, found the folder `{}` among them", folder.display()))
            .with_hint("load a folder alone, or name its files: \"folder/*.jsonl\""));
    }
    ensure_no_folder_options(&paths, options)?;
    Splits::choose(&BTreeMap::from([("train".to_owned(), paths)]), options.split.as_deref(), "a file")
}

/// Paths, with each pattern replaced by the files that match it.
fn expand_patterns(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in paths {
        let text = path.to_string_lossy();
        if path.exists() || !text.contains(['*', '?', '[']) {
            all.push(path.clone());
            continue;
        }
        let fixed = text.find(['*', '?', '[']).and_then(|at| text[..at].rfind('/')).map_or("", |at| &text[..at + 1]);
        let folder = Path::new(if fixed.is_empty() { "." } else { fixed });
        let pattern = Pattern::new(&text[fixed.len()..])?;
        let names = below(folder);
        let matches: Vec<&String> = names.iter().filter(|name| pattern.fits(name) && is_data(name)).collect();
        if matches.is_empty() {
            return Err(pattern.fits_none(&names).context(format!("`{}`", folder.display())));
        }
        all.extend(matches.into_iter().map(|name| if fixed.is_empty() { name.into() } else { folder.join(name) }));
    }
    Ok(all)
}

fn in_folder(folder: &Path, options: &LoadOptions) -> Result<Splits> {
    std::fs::read_dir(folder).map_err(|error| Error::file("read the folder", folder, &error))?;
    let all = below(folder);
    let saved = saved_shards(&all);
    let is_wanted = |name: &String| is_data(name) && !is_cached_copy(name, &saved);
    let mut names: Vec<String> = all.iter().filter(|name| is_wanted(name)).cloned().collect();
    let in_this_folder = |error: Error| error.context(format!("the folder `{}`", folder.display()));
    if let Some(pattern) = options.files.as_deref().map(Pattern::new).transpose()? {
        let before = names.clone();
        names.retain(|name| pattern.fits(name));
        if names.is_empty() && !before.is_empty() {
            return Err(in_this_folder(pattern.fits_none(&before)));
        }
    }
    if let Some(format) = options.format {
        let before = extensions(&names);
        names.retain(|name| Format::of(Path::new(name)).is_ok_and(|known| known == format));
        if names.is_empty() && !before.is_empty() {
            let error = Error::input(format!(
                "`{}` has no {} files, but {}",
                folder.display(),
                format.extension(),
                before.join(", ")
            ));
            return Err(error.with_hint(
                "name one of those formats, or load a single file, which may have any format that you name",
            ));
        }
    }
    if names.is_empty() {
        return Err(Error::new(Kind::File, format!("no data files in `{}`", folder.display()))
            .with_hint(format!("known extensions: {}", FORMATS.map(|(extension, _)| extension).join(", "))));
    }
    let is_saved = |name: &str| saved.contains(name.rsplit_once('/').map_or("", |(folder, _)| folder));
    // The folders of `save_to_disk` are splits, whatever their names.
    names.extend(all.iter().filter(|name| name.ends_with("state.json") && is_saved(name)).cloned());
    let by_split = splits_of(&names);
    let loose: Vec<&String> = by_split.values().flatten().filter(|name| !is_saved(name)).collect();
    ensure_one_configuration(&loose).map_err(in_this_folder)?;
    let files = by_split
        .into_iter()
        .map(|(split, names)| (split, names.into_iter().map(|name| folder.join(name)).collect()))
        .collect();
    let splits = Splits::choose(&files, options.split.as_deref(), &format!("`{}`", folder.display()))?;
    let names: Vec<String> = splits.paths().iter().map(|path| path.to_string_lossy().into_owned()).collect();
    match &extensions(&names)[..] {
        several if several.len() > 1 => {
            Err(Error::input(format!("`{}` has files of several formats: {}", folder.display(), several.join(", ")))
                .with_hint("name one format, or load one file"))
        }
        _ => Ok(splits),
    }
}

fn extensions(names: &[String]) -> Vec<&'static str> {
    let mut extensions: Vec<&str> =
        names.iter().filter_map(|name| Some(Format::of(Path::new(name)).ok()?.extension())).collect();
    extensions.sort_unstable();
    extensions.dedup();
    extensions
}

/// Fails on options that choose among the files of a folder, if files are named.
fn ensure_no_folder_options(paths: &[PathBuf], options: &LoadOptions) -> Result<()> {
    let slices = options.split.as_deref().map(Slice::parse).transpose()?.unwrap_or_default();
    let is_train = slices.iter().all(|slice| slice.split == "train");
    let name = match (is_train, &options.files) {
        (false, _) => "split",
        (true, Some(_)) => "files",
        (true, None) => return Ok(()),
    };
    let path = paths.first().map_or_else(String::new, |path| path.display().to_string());
    let refusal = Refusal::new(name, "a folder or a name of the hub", format!("the file `{path}`"));
    let hint = "leave it out, and load the file of each split; .split(#{ test: 0.1 }) holds rows out";
    Err(refusal.with_hint(hint).error(CALL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[&str], split: Option<&str>) -> Result<Vec<PathBuf>> {
        let names: Vec<String> = files.iter().map(|name| name.to_string()).collect();
        let files = splits_of(&names)
            .into_iter()
            .map(|(split, names)| (split, names.into_iter().map(PathBuf::from).collect()))
            .collect();
        Ok(Splits::choose(&files, split, "`d`")?.paths())
    }

    #[test]
    fn splits_are_recognised_by_whole_words() {
        let files = ["data/train-00000-of-00001.parquet", "data/test-0.parquet", "data/contest.parquet"];
        assert_eq!(chosen(&files, None).unwrap(), [PathBuf::from(files[0])]);
        assert_eq!(chosen(&files, Some("test")).unwrap(), [PathBuf::from(files[1])]);
        assert!(chosen(&files, Some("validation")).is_err());
        assert_eq!(chosen(&files[2..], None).unwrap(), [PathBuf::from(files[2])]);
        assert_eq!(chosen(&files, Some("train[:5]+eval")).unwrap().len(), 2);
        let error = chosen(&["test.csv", "dev.csv"], None).unwrap_err();
        assert!(error.message.contains("test, validation"), "{error}");
    }
}
