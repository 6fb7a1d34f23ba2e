//! The paths that a source file names: `use` items, paths in code, and paths in the arguments of macros.
//!
//! `syn` parses the file. It leaves the arguments of macros and attributes as tokens, and in those a
//! path is a chain of names with `::` between them. What a macro expands to is not seen.
//! What a path leads to is for `layers.rs` (the first name below the root) and `circles.rs` (a file).

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use std::path::Path;
use syn::visit::{self, Visit};

/// A source file of the crate.
pub struct Source {
    /// The path within `src/`, with `/`.
    pub file: String,
    /// Every path of two names or more, and every path that a `use` item imports.
    pub paths: Vec<NamedPath>,
    /// Every identifier outside comments and strings, with its line.
    pub idents: Vec<(String, usize)>,
}

/// A path as written, with groups of `use` items spread out.
pub struct NamedPath {
    /// The names with their lines from 1; `*` for a glob.
    pub names: Vec<(String, usize)>,
    /// The module that the path is written in: `["hub", "cache", "tests"]`.
    pub module: Vec<String>,
    /// Below `#[cfg(test)]`.
    pub is_test: bool,
    /// `None` for a path in code.
    pub import: Option<Import>,
}

/// What a `use` item does with its path.
pub struct Import {
    /// The name that it brings into the module.
    pub alias: String,
    /// With `pub`, `pub(super)` and so on.
    pub is_public: bool,
}

impl Source {
    /// Parses `text`; `file` is its path within `src/`.
    pub fn parse(file: &Path, text: &str) -> Source {
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let tokens: TokenStream = text.parse().map_err(|error| at(&error)).unwrap();
        let mut idents = Vec::new();
        all_idents(tokens.clone(), &mut idents);
        let mut reader = Reader { module: module_path(file), is_test: false, paths: Vec::new() };
        reader.visit_file(&syn::parse2(tokens).map_err(|error| at(&error)).unwrap());
        Source { file: file.to_string_lossy().replace('\\', "/"), paths: reader.paths, idents }
    }
}

impl NamedPath {
    /// The names below the root of the crate, and how many names as written lead to the root;
    /// `None` where the path begins with neither `crate` nor enough `super` to get there for
    /// certain: with a name, as in `chart::Chart`.
    pub fn below_root(&self) -> Option<(Vec<&str>, usize)> {
        let first = self.names.first()?.0.as_str();
        let leading = |word: &str| self.names.iter().take_while(|(name, _)| name == word).count();
        let (base, skipped) = match first {
            "crate" => (0, 1),
            "super" => (self.module.len().saturating_sub(leading("super")), leading("super")),
            "self" => (self.module.len(), 1),
            _ => return None,
        };
        let below = self.module[..base].iter().map(String::as_str);
        let written = self.names[skipped..].iter().map(|(name, _)| name.as_str());
        Some((below.chain(written).collect(), skipped))
    }
}

/// `hub/weights/index.rs` is `hub::weights::index`; `hub/mod.rs` is `hub`.
pub fn module_path(file: &Path) -> Vec<String> {
    let path = file.with_extension("");
    let names = path.iter().map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name != "mod" && name != "lib").collect()
}

struct Reader {
    module: Vec<String>,
    is_test: bool,
    paths: Vec<NamedPath>,
}

impl Reader {
    fn push(&mut self, names: Vec<(String, usize)>, import: Option<Import>) {
        self.paths.push(NamedPath { names, module: self.module.clone(), is_test: self.is_test, import });
    }

    /// A path for each name that a `use` item imports; `names` leads to `tree`.
    fn spread(&mut self, mut names: Vec<(String, usize)>, tree: &syn::UseTree, is_public: bool) {
        let (last, alias) = match tree {
            syn::UseTree::Path(path) => {
                names.push(with_line(&path.ident));
                return self.spread(names, &path.tree, is_public);
            }
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|item| self.spread(names.clone(), item, is_public));
            }
            syn::UseTree::Name(name) => (with_line(&name.ident), &name.ident),
            syn::UseTree::Rename(rename) => (with_line(&rename.ident), &rename.rename),
            syn::UseTree::Glob(glob) => {
                names.push(("*".to_owned(), glob.star_token.span.start().line));
                return self.push(names, Some(Import { alias: "*".to_owned(), is_public }));
            }
        };
        // `use a::b::{self}` imports `b`.
        let alias = if *alias == "self" { names.last().map(|(name, _)| name.clone()) } else { Some(alias.to_string()) };
        names.push(last);
        self.push(names, Some(Import { alias: alias.unwrap_or_default(), is_public }));
    }

    /// The chains of names in the arguments of a macro or an attribute; `prefix` leads to a group
    /// of them: `prefix::{…}`.
    fn scan(&mut self, tokens: TokenStream, prefix: &[(String, usize)]) {
        let mut names: Vec<(String, usize)> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            let is_next = colons == 2 && !names.is_empty();
            match token {
                TokenTree::Punct(mark) if mark.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Punct(mark) if mark.as_char() == '*' && is_next => {
                    names.push(("*".to_owned(), mark.span().start().line));
                }
                TokenTree::Ident(ident) if is_next => names.push(with_line(&ident)),
                TokenTree::Ident(ident) => {
                    self.end_chain(std::mem::replace(&mut names, prefix.to_vec()));
                    names.push(with_line(&ident));
                }
                TokenTree::Group(group) if is_next && group.delimiter() == Delimiter::Brace => {
                    self.scan(group.stream(), &std::mem::take(&mut names));
                }
                TokenTree::Group(group) => {
                    self.end_chain(std::mem::take(&mut names));
                    self.scan(group.stream(), &[]);
                }
                _ => self.end_chain(std::mem::take(&mut names)),
            }
            colons = 0;
        }
        self.end_chain(names);
    }

    fn end_chain(&mut self, names: Vec<(String, usize)>) {
        if names.len() > 1 {
            self.push(names, None);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let outside = self.is_test;
        self.is_test |= item.attrs.iter().any(is_cfg_test);
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
        self.is_test = outside;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            self.spread(Vec::new(), &item.tree, !matches!(item.vis, syn::Visibility::Inherited));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            self.push(path.segments.iter().map(|segment| with_line(&segment.ident)).collect(), None);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.scan(call.tokens.clone(), &[]);
        visit::visit_macro(self, call);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.scan(list.tokens.clone(), &[]);
        visit::visit_meta_list(self, list);
    }
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
}

fn with_line(ident: &Ident) -> (String, usize) {
    (ident.to_string(), ident.span().start().line)
}

fn all_idents(tokens: TokenStream, idents: &mut Vec<(String, usize)>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => idents.push(with_line(&ident)),
            TokenTree::Group(group) => all_idents(group.stream(), idents),
            _ => {}
        }
    }
}
