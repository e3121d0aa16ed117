//! Aligned text tables.

/// Rows of cells under a heading.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(title: &str, heads: &[&str]) -> Self {
        Self { title: title.into(), rows: vec![heads.iter().map(|h| h.to_string()).collect()] }
    }

    pub fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.to_vec());
    }

    /// Prints the table as Markdown.
    pub fn print(&self) {
        let columns = self.rows[0].len();
        let width = |c: usize| self.rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
        println!("### {}\n", self.title);
        for (i, row) in self.rows.iter().enumerate() {
            let cells = (0..columns).map(|c| format!("{:<1$}", row[c], width(c)));
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if i == 0 {
                println!("|{}", (0..columns).map(|c| "-".repeat(width(c) + 2) + "|").collect::<String>());
            }
        }
        println!();
    }
}
