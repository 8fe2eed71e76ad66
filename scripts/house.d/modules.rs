//! The tree of modules, and the file to which a path in the code leads.
//!
//! Test code is left out. Paths are followed through imports and re-exports to the file that defines the name.
//! These are not followed: macros, methods, fields, and names that a glob import brings from another crate.

use crate::lex::{Kind, Token, close_of};
use crate::source::{File, folder_of, inside_of, path_attribute};
use std::collections::{BTreeMap, BTreeSet};

/// The name by which binaries and benches refer to the library.
const LIBRARY: &str = "hydrant";
/// The limit on following imports of imports. It ends cycles of glob imports.
const MAX_DEPTH: usize = 12;

#[derive(Debug, Default)]
pub struct Module {
    /// The index of the file that contains the module.
    pub file: usize,
    pub parent: Option<usize>,
    root: usize,
    children: BTreeMap<String, usize>,
    /// The names of the module's items, except the modules in it.
    items: BTreeSet<String>,
    pub imports: Vec<Import>,
    /// The paths that occur in the code, for example `human::bytes`.
    pub paths: Vec<Vec<String>>,
}

#[derive(Debug)]
pub struct Import {
    pub path: Vec<String>,
    /// The name that the import has in this module; `*` for a glob import.
    pub name: String,
    /// Whether the import is a re-export: `pub use`, `pub(crate) use` and the like.
    pub is_public: bool,
}

/// A type that the code defines: a struct, enum, trait, union or type alias.
#[derive(Debug)]
pub struct Type {
    pub name: String,
    pub kind: &'static str,
    pub file: usize,
    pub line: usize,
    module: usize,
    /// Whether the type is defined inside a function, where no other file can use it.
    is_local: bool,
}

impl Type {
    pub fn is(&self, other: &Self) -> bool {
        (self.file, self.line, &self.name) == (other.file, other.line, &other.name)
    }
}

/// The result of following a path in the code: a module or an item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Module(usize),
    Item { module: usize, name: String },
}

#[derive(Debug, Default)]
pub struct Tree {
    pub modules: Vec<Module>,
    pub types: Vec<Type>,
    library: Option<usize>,
}

impl Tree {
    /// Builds the tree of every crate whose root file is at one of the usual places.
    pub fn of(files: &[File]) -> Self {
        let mut tree = Self::default();
        for (i, file) in files.iter().enumerate() {
            let is_alone = ["benches", "src/bin", "fuzz/fuzz_targets"].contains(&folder_of(file.path));
            if is_alone || ["src/lib.rs", "src/main.rs"].contains(&file.path) {
                let root = tree.modules.len();
                if file.path == "src/lib.rs" {
                    tree.library = Some(root);
                }
                tree.modules.push(Module { file: i, root, ..Module::default() });
                tree.read(files, root);
            }
        }
        tree
    }

    fn child(&mut self, parent: usize, name: &str, file: usize) -> usize {
        let id = self.modules.len();
        self.modules.push(Module { file, parent: Some(parent), root: self.modules[parent].root, ..Module::default() });
        self.modules[parent].children.insert(name.to_owned(), id);
        id
    }

    /// Reads the file of `module`, and the files of the modules that it declares.
    fn read(&mut self, files: &[File], module: usize) {
        let file = self.modules[module].file;
        let tokens = &files[file].tokens;
        let text = |i: usize| tokens.get(i).map_or("", |t: &Token| t.text);
        let is_name = |i: usize| tokens.get(i).is_some_and(|t| t.kind == Kind::Ident);
        let (mut blocks, mut module) = (vec![], module);
        let mut folder = inside_of(files[file].path).to_owned();
        let (mut next_is_associated, mut path) = (false, None);
        let mut i = 0;
        while i < tokens.len() {
            let before = if i == 0 { ";" } else { text(i - 1) };
            let in_module = blocks.last().is_none_or(|b| matches!(b, Block::Module(_)));
            let is_word = tokens[i].kind == Kind::Ident;
            match text(i) {
                "#" if text(i + 1) == "[" => {
                    path = path_attribute(&tokens[(i + 2).min(tokens.len())..close_of(tokens, i + 1)]).or(path);
                }
                "mod" if is_name(i + 1) && text(i + 2) == "{" => {
                    blocks.push(Block::Module(module));
                    module = self.child(module, text(i + 1), file);
                    folder = format!("{folder}/{}", text(i + 1));
                    i += 2;
                }
                "mod" if is_name(i + 1) && text(i + 2) == ";" => {
                    let name = text(i + 1);
                    let places = match path.take() {
                        Some(path) => vec![format!("{}/{path}", folder_of(files[file].path))],
                        None => vec![format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")],
                    };
                    if let Some(found) = files.iter().position(|f| places.iter().any(|p| p == f.path)) {
                        let child = self.child(module, name, found);
                        self.read(files, child);
                    }
                    i += 2;
                }
                "use" if is_word && text(i + 1) != "<" => {
                    let is_public = before == "pub" || (before == ")" && opened_by_pub(tokens, i - 1));
                    let mut paths = Vec::new();
                    i = use_tree(tokens, i + 1, &[], &mut paths);
                    let imports = paths.into_iter().map(|(path, name)| Import { path, name, is_public });
                    self.modules[module].imports.extend(imports);
                    continue;
                }
                "impl" if [";", "{", "}", "]", "unsafe"].contains(&before) => next_is_associated = true,
                kind @ ("struct" | "enum" | "trait" | "type" | "union") if is_word && is_name(i + 1) => {
                    next_is_associated |= kind == "trait";
                    let is_union = kind != "union" || ["{", "<", "where"].contains(&text(i + 2));
                    let is_associated = kind == "type" && matches!(blocks.last(), Some(Block::Associated));
                    if is_union && !is_associated {
                        let kind = ["struct", "enum", "trait", "type", "union"].into_iter().find(|k| *k == kind);
                        let (name, line) = (text(i + 1).to_owned(), tokens[i].line);
                        if in_module {
                            self.modules[module].items.insert(name.clone());
                        }
                        self.types.push(Type {
                            name,
                            kind: kind.unwrap_or(""),
                            file,
                            line,
                            module,
                            is_local: !in_module,
                        });
                    }
                }
                "fn" | "const" | "static" if in_module && is_name(i + 1) => {
                    self.modules[module].items.insert(text(i + 1).to_owned());
                }
                "{" => {
                    blocks.push(if std::mem::take(&mut next_is_associated) { Block::Associated } else { Block::Other })
                }
                "}" => {
                    if let Some(Block::Module(outer)) = blocks.pop() {
                        module = outer;
                        folder.truncate(folder_of(&folder).len());
                    }
                }
                _ if is_word && text(i + 1) == "::" && before != "::" => {
                    let mut segments = vec![text(i).to_owned()];
                    while text(i + 1) == "::" && is_name(i + 2) {
                        segments.push(text(i + 2).to_owned());
                        i += 2;
                    }
                    self.modules[module].paths.push(segments);
                }
                _ => {}
            }
            if text(i) == ";" {
                path = None;
            }
            i += 1;
        }
    }

    pub fn resolve(&self, from: usize, path: &[String]) -> Option<Target> {
        self.follow(from, path, 0)
    }

    fn follow(&self, from: usize, path: &[String], depth: usize) -> Option<Target> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let is_rooted = ["crate", "self", "super"].contains(&first.as_str());
        let mut at = match first.as_str() {
            "crate" => Target::Module(self.modules[from].root),
            "self" => Target::Module(from),
            "super" => Target::Module(self.modules[from].parent?),
            name => match self.look_up(from, name, rest.is_empty(), depth) {
                Some(found) => found,
                None => Target::Module(self.library.filter(|_| name == LIBRARY)?),
            },
        };
        for (i, segment) in rest.iter().enumerate() {
            let Target::Module(module) = at else { break };
            let found = if segment == "super" {
                self.modules[module].parent.map(Target::Module)
            } else {
                self.look_up(module, segment, i + 1 == rest.len(), depth)
            };
            let unknown = || is_rooted.then(|| Target::Item { module, name: segment.clone() });
            at = found.or_else(unknown)?;
        }
        Some(at)
    }

    /// Finds the meaning of `name` in `module`. If it is the last segment of a path, an item has precedence over a
    /// module of the same name.
    fn look_up(&self, module: usize, name: &str, is_last: bool, depth: usize) -> Option<Target> {
        let here = &self.modules[module];
        let child = here.children.get(name).map(|c| Target::Module(*c));
        if child.is_some() && !is_last {
            return child;
        }
        if here.items.contains(name) {
            return Some(Target::Item { module, name: name.to_owned() });
        }
        let named = here.imports.iter().filter(|i| i.name == name);
        let by_name = named.filter_map(|i| self.follow(module, &i.path, depth + 1)).next();
        let by_glob = || {
            let globs = here.imports.iter().filter(|i| i.name == "*");
            globs.filter_map(|i| self.follow(module, &i.path, depth + 1)).find_map(|target| match target {
                Target::Module(of) if of != module => self.look_up(of, name, is_last, depth + 1),
                _ => None,
            })
        };
        by_name.or(child).or_else(by_glob)
    }

    /// The top-level module of the library that `path` leads through. None if the path stays below the top level.
    pub fn names_top(&self, from: usize, path: &[String]) -> Option<&str> {
        let mut at = from;
        for segment in path {
            match segment.as_str() {
                "crate" => at = self.modules[from].root,
                "super" => at = self.modules[at].parent?,
                LIBRARY if Some(at) != self.library && at == from => at = self.library?,
                name if Some(at) == self.library => {
                    return self.modules[at].children.get_key_value(name).map(|(name, _)| name.as_str());
                }
                _ => return None,
            }
        }
        None
    }

    /// The second and further types to which one name of a module refers. The compiler allows that only if no build
    /// has both (`#[cfg(x)]` and `#[cfg(not(x))]`), so they count as one type.
    pub fn alternatives(&self) -> Vec<&Type> {
        let mut found = Vec::new();
        for (id, module) in self.modules.iter().enumerate() {
            let mut meanings = BTreeMap::<&str, Vec<&Type>>::new();
            for one in self.types.iter().filter(|t| t.module == id && !t.is_local) {
                meanings.entry(&one.name).or_default().push(one);
            }
            for import in &module.imports {
                let target = self.resolve(id, &import.path);
                if let Some(one) = target.and_then(|target| self.type_of(&target)) {
                    meanings.entry(&import.name).or_default().push(one);
                }
            }
            for types in meanings.values() {
                found.extend(types.iter().filter(|t| !t.is(types[0])));
            }
        }
        found
    }

    /// The definition of the type to which a path leads.
    pub fn type_of(&self, target: &Target) -> Option<&Type> {
        let Target::Item { module, name } = target else { return None };
        self.types.iter().find(|t| t.module == *module && t.name == *name && !t.is_local)
    }
}

enum Block {
    /// The block of a module. The number is the module that continues after the block.
    Module(usize),
    /// The block of an `impl` or a trait, whose items belong to a type.
    Associated,
    Other,
}

fn opened_by_pub(tokens: &[Token], close: usize) -> bool {
    let open = tokens[..close].iter().rposition(|t| t.text == "(");
    open.is_some_and(|o| o > 0 && tokens[o - 1].text == "pub")
}

/// Reads the tree of a `use` from token `i` on, into pairs of a path and the name that it gets. Returns the index
/// of the token that ends the tree.
fn use_tree(tokens: &[Token], mut i: usize, prefix: &[String], out: &mut Vec<(Vec<String>, String)>) -> usize {
    let mut path = prefix.to_vec();
    let mut name = None;
    while let Some(token) = tokens.get(i) {
        match token.text {
            "," | ";" | "}" => break,
            // The path begins with `::`, so it belongs to another crate.
            "::" if path.is_empty() => path.push(String::new()),
            "::" => {}
            "{" => {
                loop {
                    i = use_tree(tokens, i + 1, &path, out);
                    if tokens.get(i).is_none_or(|t| t.text != ",") {
                        break;
                    }
                }
                return i + 1;
            }
            "as" => {
                name = tokens.get(i + 1).map(|t| t.text.to_owned());
                i += 1;
            }
            "*" => name = Some("*".to_owned()),
            "self" if !path.is_empty() => {}
            segment => path.push(segment.to_owned()),
        }
        i += 1;
    }
    if path.len() > prefix.len() || name.is_some() || tokens.get(i.wrapping_sub(1)).is_some_and(|t| t.text == "self") {
        let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
        out.push((path, name));
    }
    i
}
