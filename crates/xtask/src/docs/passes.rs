//! The passes of quantization: their files' own words.

use std::path::Path;

use syn::{Item, Lit};

/// A pass, in the order in which passes run.
pub struct Pass {
    pub name: String,
    /// As Markdown.
    pub about: String,
}

/// Reads the modules of the folder in the order of its list.
pub fn read(folder: &Path) -> Result<Vec<Pass>, String> {
    let list = std::fs::read_to_string(folder.join("mod.rs")).map_err(|e| format!("{}: {e}", folder.display()))?;
    let order = order(&list)?;
    let mut passes = Vec::new();
    for module in order {
        let path = folder.join(format!("{module}.rs"));
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file = syn::parse_file(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let about: Vec<String> = file.attrs.iter().filter_map(doc).collect();
        if about.is_empty() {
            return Err(format!("{} says nothing of itself", path.display()));
        }
        let about = about.iter().map(|l| l.trim()).collect::<Vec<_>>().join("\n");
        passes.push(Pass { name: module.replace('_', "-"), about });
    }
    Ok(passes)
}

/// Modules in the order of the constant `PASSES`.
fn order(text: &str) -> Result<Vec<String>, String> {
    let file = syn::parse_file(text).map_err(|e| e.to_string())?;
    let list = file.items.iter().find_map(|item| match item {
        Item::Const(c) if c.ident == "PASSES" => Some(&c.expr),
        Item::Static(s) if s.ident == "PASSES" => Some(&s.expr),
        _ => None,
    });
    let mut expr = list.ok_or("there is no list PASSES")?.as_ref();
    if let syn::Expr::Reference(r) = expr {
        expr = &r.expr;
    }
    let syn::Expr::Array(array) = expr else { return Err("PASSES is no list".into()) };
    let module = |expr: &syn::Expr| match expr {
        syn::Expr::Reference(r) => match r.expr.as_ref() {
            syn::Expr::Path(p) => p.path.segments.first().map(|s| s.ident.to_string()),
            _ => None,
        },
        _ => None,
    };
    array.elems.iter().map(|e| module(e).ok_or_else(|| "PASSES holds what is no pass".to_string())).collect()
}

fn doc(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    match &pair.value {
        syn::Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) if pair.path.is_ident("doc") => Some(text.value()),
        _ => None,
    }
}
