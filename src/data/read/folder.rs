//! Paths, folders and patterns to the files of each split, and the rows of them that are wanted.

use super::slices::Slice;
use super::{read_files, Format, LoadOptions, Loaded, FORMATS};
use crate::data::dataset::Dataset;
use crate::error::{Error, Kind, Result};
use crate::hub::dataset::{
    below, ensure_one_configuration, is_cached_copy, is_data, saved_shards, split_named, splits_of, Pattern,
};
use crate::suggest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is read: the files of some splits, and which of their rows.
#[derive(Debug, Clone)]
pub struct Splits {
    parts: Vec<(Vec<PathBuf>, Slice)>,
}

impl Splits {
    /// The rows that the option `split` names, of files by split. `place` is what messages call them.
    pub fn choose(files: &BTreeMap<String, Vec<PathBuf>>, split: Option<&str>, place: &str) -> Result<Self> {
        let known = || files.keys().map(String::as_str);
        let slices = match split {
            Some(text) => Slice::parse(text)?,
            None => match files.len() {
                1 => known().map(Slice::whole).collect(),
                _ if files.contains_key("train") => vec![Slice::whole("train")],
                _ => {
                    let names: Vec<&str> = known().collect();
                    return Err(Error::input(format!("{place} has the splits {}, and no train", names.join(", ")))
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
                Error::input(format!("{place} has no split `{}`", slice.split))
                    .with_hint(suggest::hint(&slice.split, known()))
            })?;
            Ok(vec![(paths.clone(), slice)])
        };
        let parts: Result<Vec<Vec<_>>> = slices.into_iter().map(of).collect();
        Ok(Splits { parts: parts?.concat() })
    }

    /// Every file that is read, once.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for path in self.parts.iter().flat_map(|(paths, _)| paths) {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        paths
    }

    pub fn read(&self, options: &LoadOptions) -> Result<Loaded> {
        let mut all: Option<Loaded> = None;
        for (paths, slice) in &self.parts {
            let mut loaded = read_files(paths, options)?;
            let rows: Vec<usize> = slice.range(loaded.data.len())?.collect();
            if rows.len() < loaded.data.len() {
                loaded.data = loaded.data.select(&rows)?;
            }
            all = Some(match all {
                None => loaded,
                Some(before) => joined(before, loaded)?,
            });
        }
        let loaded = all.unwrap_or_default();
        match loaded.data.is_empty() {
            true => Err(Error::input("option `split`: no rows are left").with_hint("give wider bounds")),
            false => Ok(loaded),
        }
    }
}

fn joined(mut before: Loaded, next: Loaded) -> Result<Loaded> {
    let rows = before.data.iter().chain(next.data.iter()).cloned();
    let data = Dataset::from_rows(rows.collect::<Vec<_>>());
    before.notes.extend(next.notes.into_iter().filter(|note| !before.notes.contains(note)).collect::<Vec<_>>());
    Ok(Loaded { data, notes: before.notes })
}

/// Files, the data files of one folder, or the files that a pattern names.
pub fn locate(paths: &[PathBuf], options: &LoadOptions) -> Result<Splits> {
    let paths = expanded(paths)?;
    if let [folder] = &paths[..] {
        if folder.is_dir() {
            return in_folder(folder, options);
        }
    }
    if let Some(folder) = paths.iter().find(|path| path.is_dir()) {
        return Err(Error::input(format!("expected files, found the folder `{}` among them", folder.display()))
            .with_hint("load a folder alone, or name its files: \"folder/*.jsonl\""));
    }
    ensure_no_choice(&paths, options)?;
    Splits::choose(&BTreeMap::from([("train".to_owned(), paths)]), options.split.as_deref(), "a file")
}

/// Paths with the files in the place of a pattern.
fn expanded(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
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
        let fitting: Vec<&String> = names.iter().filter(|name| pattern.fits(name) && is_data(name)).collect();
        if fitting.is_empty() {
            return Err(pattern.fits_none(&names).context(format!("`{}`", folder.display())));
        }
        all.extend(fitting.into_iter().map(|name| if fixed.is_empty() { name.into() } else { folder.join(name) }));
    }
    Ok(all)
}

fn in_folder(folder: &Path, options: &LoadOptions) -> Result<Splits> {
    std::fs::read_dir(folder).map_err(|error| Error::file("read the folder", folder, &error))?;
    let all = below(folder);
    let saved = saved_shards(&all);
    let is_wanted = |name: &String| is_data(name) && !is_cached_copy(name, &saved);
    let mut names: Vec<String> = all.iter().filter(|name| is_wanted(name)).cloned().collect();
    let named = |error: Error| error.context(format!("the folder `{}`", folder.display()));
    if let Some(pattern) = options.files.as_deref().map(Pattern::new).transpose()? {
        let before = names.clone();
        names.retain(|name| pattern.fits(name));
        if names.is_empty() && !before.is_empty() {
            return Err(named(pattern.fits_none(&before)));
        }
    }
    if let Some(format) = options.format {
        let before = endings(&names);
        names.retain(|name| Format::of(Path::new(name)).is_ok_and(|known| known == format));
        if names.is_empty() && !before.is_empty() {
            let error = Error::input(format!(
                "`{}` holds no {} files, but {}",
                folder.display(),
                format.ending(),
                before.join(", ")
            ));
            return Err(error
                .with_hint("name that format, or load the file itself: one file may be of any format that is named"));
        }
    }
    if names.is_empty() {
        return Err(Error::new(Kind::File, format!("no data files in `{}`", folder.display()))
            .with_hint(format!("known endings: {}", FORMATS.map(|(ending, _)| ending).join(", "))));
    }
    let is_saved = |name: &str| saved.contains(name.rsplit_once('/').map_or("", |(folder, _)| folder));
    // Their folders are splits, whatever they are called.
    names.extend(all.iter().filter(|name| name.ends_with("state.json") && is_saved(name)).cloned());
    let by_split = splits_of(&names);
    let loose: Vec<&String> = by_split.values().flatten().filter(|name| !is_saved(name)).collect();
    ensure_one_configuration(&loose).map_err(named)?;
    let files = by_split
        .into_iter()
        .map(|(split, names)| (split, names.into_iter().map(|name| folder.join(name)).collect()))
        .collect();
    let splits = Splits::choose(&files, options.split.as_deref(), &format!("`{}`", folder.display()))?;
    let names: Vec<String> = splits.paths().iter().map(|path| path.to_string_lossy().into_owned()).collect();
    match &endings(&names)[..] {
        several if several.len() > 1 => {
            Err(Error::input(format!("`{}` holds several formats: {}", folder.display(), several.join(", ")))
                .with_hint("name the format, or one file of it"))
        }
        _ => Ok(splits),
    }
}

fn endings(names: &[String]) -> Vec<&'static str> {
    let mut endings: Vec<&str> =
        names.iter().filter_map(|name| Some(Format::of(Path::new(name)).ok()?.ending())).collect();
    endings.sort_unstable();
    endings.dedup();
    endings
}

/// Options that choose among files say nothing of files that are named.
fn ensure_no_choice(paths: &[PathBuf], options: &LoadOptions) -> Result<()> {
    let slices = options.split.as_deref().map(Slice::parse).transpose()?.unwrap_or_default();
    let is_train = slices.iter().all(|slice| slice.split == "train");
    let name = match (is_train, &options.files) {
        (false, _) => "split",
        (true, Some(_)) => "files",
        (true, None) => return Ok(()),
    };
    let path = paths.first().map_or_else(String::new, |path| path.display().to_string());
    let error =
        Error::input(format!("option `{name}`: expected a folder or a name of the hub, found the file `{path}`"));
    Err(error.with_hint("leave it out, and load the file of each split; rows are held out by .split(#{ test: 0.1 })"))
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
    fn splits_are_told_by_words_not_by_letters() {
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
