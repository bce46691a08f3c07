"""Look of the report: one style sheet, light and dark, nothing loaded from elsewhere."""

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --card: #ffffff; --ink: #23262d;
  --soft: #6b7280; --line: #e4e2dd; --good: #1a7f4e; --bad: #b3261e; --accent: #7c4a2d; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15171b; --card: #1d2026; --ink: #e7e6e3; --soft: #9aa1ac;
    --line: #30343c; --good: #5fcf97; --bad: #ff8a80; --accent: #e0a882; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 3rem 1.25rem 4rem; }
h1 { font-size: 2.1rem; line-height: 1.15; margin: 0 0 .5rem; letter-spacing: -.02em; }
h2 { font-size: 1.3rem; margin: 3rem 0 .75rem; letter-spacing: -.01em; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
p { max-width: 46rem; margin: .25rem 0 1rem; } .soft { color: var(--soft); }
.verdict { font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1rem; margin: 0 0 1.25rem; }
.pair { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); }
img { display: block; max-width: 100%; height: auto; border-radius: 6px; background: #fff; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .875rem; margin-top: .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem 1.25rem .35rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; } td.number { text-align: right; }
dl { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: .6rem 0 0; font-size: .85rem; }
dl div { display: flex; gap: .35rem; } dt { color: var(--soft); }
dd { margin: 0; font-variant-numeric: tabular-nums; }
"""
