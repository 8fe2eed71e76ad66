//! The graph of imports: edges between files or folders, and the loops in it.

use crate::modules::{Target, Tree};
use crate::source::File;
use std::collections::{BTreeMap, BTreeSet};

/// A graph as a map from each importing file to the imported files, and from there to the imported names.
pub type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The import edges between files. These are left out: what mod.rs and lib.rs only pass on (`pub use`, `mod`),
/// imports of a module's name alone (the paths that begin with it are counted instead), and test code.
pub fn of_files(tree: &Tree, files: &[File]) -> Graph {
    let mut graph = Graph::new();
    for (id, module) in tree.modules.iter().enumerate() {
        let from = files[module.file].path;
        let passes_on = from.ends_with("/mod.rs") || from.ends_with("/lib.rs");
        let imports = module.imports.iter().filter(|i| !(passes_on && i.is_public));
        let imported = imports.map(|i| (&i.path, i.name == "*"));
        for (path, is_glob) in imported.chain(module.paths.iter().map(|p| (p, false))) {
            let (to, name) = match tree.resolve(id, path) {
                Some(Target::Item { module, name }) => (tree.modules[module].file, name),
                Some(Target::Module(module)) if is_glob => (tree.modules[module].file, "*".to_owned()),
                _ => continue,
            };
            if to != module.file {
                let names = graph.entry(from.to_owned()).or_default().entry(files[to].path.to_owned()).or_default();
                names.insert(name);
            }
        }
    }
    graph
}

/// Returns `graph` without the edges from a mod.rs to files of its own folder and below. A mod.rs may import what
/// it re-exports.
pub fn without_facades(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    for (from, edges) in &mut graph {
        if let Some(folder) = from.strip_suffix("mod.rs") {
            edges.retain(|to, _| !to.starts_with(folder));
        }
    }
    graph
}

/// The part of `graph` inside `folder` (for example `src/fleet/`). Its nodes are the files and folders directly in
/// it; each folder stands for everything inside.
pub fn inside(graph: &Graph, folder: &str) -> Graph {
    let place = |path: &str| {
        let below = path.strip_prefix(folder)?;
        Some(below.split_once('/').map_or(path.to_owned(), |(name, _)| format!("{folder}{name}/")))
    };
    let mut seen = Graph::new();
    for (from, edges) in graph {
        for (to, names) in edges {
            if let (Some(a), Some(b)) = (place(from), place(to))
                && a != b
            {
                seen.entry(a).or_default().entry(b).or_default().extend(names.iter().cloned());
            }
        }
    }
    seen
}

/// The loops of the graph: its strongly connected components with more than one node, each sorted (Tarjan's
/// algorithm).
pub fn loops(graph: &Graph) -> Vec<Vec<&str>> {
    let mut search = Search { graph, index: BTreeMap::new(), stack: Vec::new(), found: Vec::new() };
    for node in graph.keys() {
        if !search.index.contains_key(node.as_str()) {
            search.visit(node);
        }
    }
    search.found.sort();
    search.found
}

struct Search<'a> {
    graph: &'a Graph,
    index: BTreeMap<&'a str, usize>,
    stack: Vec<&'a str>,
    found: Vec<Vec<&'a str>>,
}

impl<'a> Search<'a> {
    /// Returns the lowest index that can be reached from `node`.
    fn visit(&mut self, node: &'a str) -> usize {
        let index = self.index.len();
        self.index.insert(node, index);
        self.stack.push(node);
        let mut low = index;
        for next in self.graph.get(node).into_iter().flat_map(|edges| edges.keys()) {
            match self.index.get(next.as_str()) {
                None => low = low.min(self.visit(next)),
                Some(other) if self.stack.contains(&next.as_str()) => low = low.min(*other),
                Some(_) => {}
            }
        }
        if low == index {
            let at = self.stack.iter().position(|n| *n == node).unwrap_or(0);
            let mut component = self.stack.split_off(at);
            component.sort_unstable();
            if component.len() > 1 {
                self.found.push(component);
            }
        }
        low
    }
}

/// One line for each edge between two members of `component`.
pub fn edges_of(graph: &Graph, component: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    for from in component {
        for (to, names) in graph.get(*from).into_iter().flatten().filter(|(to, _)| component.contains(&to.as_str())) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            lines.push(format!("{from} → {to}: {}", names.join(", ")));
        }
    }
    lines
}
