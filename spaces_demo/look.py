"""The look of the Space: theme and style sheet, light and dark, from a phone to a desk."""

from __future__ import annotations

from typing import Any


def theme() -> Any:
    """Gradio's plain theme in our colours, with fonts that every system has: nothing is fetched."""
    import gradio as gr

    sans = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    return gr.themes.Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=sans,
        font_mono=["ui-monospace", "Menlo", "monospace"],
        radius_size="md",
    ).set(
        body_text_color_subdued="#55627a",
        body_text_color_subdued_dark="#a3b1c6",
        block_info_text_color="#55627a",
        block_info_text_color_dark="#a3b1c6",
        block_title_text_color="#334155",
        block_title_text_color_dark="#cbd5e1",
        block_label_text_color="#334155",
        block_label_text_color_dark="#cbd5e1",
        input_border_width="1px",
        input_placeholder_color="#64748b",
        input_placeholder_color_dark="#94a3b8",
        body_background_fill="#f6f8fa",
        body_background_fill_dark="#0d1420",
        block_background_fill="#ffffff",
        block_background_fill_dark="#151e2d",
        block_border_width="1px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_hover_dark="#115e59",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
    )


CSS = """
.gradio-container { width: 100% !important; max-width: 1200px !important; margin: 0 auto !important; }
.gradio-container .main, .gradio-container .main > .wrap { padding-inline: 12px !important; }
.gradio-container .main { padding-top: 12px !important; }
.gradio-container .html-container { padding: 0 !important; }
.intro h1 { font-size: 1.55rem; font-weight: 700; margin: 0 0 2px; letter-spacing: -.01em; }
.intro p { margin: 0; color: var(--body-text-color-subdued); }
.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.ours { color: var(--body-text-color); font-size: .95rem; line-height: 1.5; overflow-wrap: anywhere; }
.ours h3, .ours h4 { color: var(--body-text-color); }
.ours h4 { font-size: .82rem; font-weight: 650; margin: 14px 0 6px; }
.ours .note { color: var(--body-text-color-subdued); font-size: .84rem; margin: 0 0 6px; }
.ours ul, .ours ol { list-style: none; margin: 0; padding: 0; }
.ours button.act {
  font: inherit; font-size: .88rem; line-height: 1; min-height: 36px; min-width: 36px;
  padding: 0 10px; border: 1px solid var(--border-color-primary); border-radius: 8px;
  background: var(--background-fill-primary);
  color: var(--body-text-color); cursor: pointer; flex: none; }
.ours button.act:hover { border-color: #0d9488; background: color-mix(in srgb, #0d9488 10%, transparent); }
.ours button.act.on { border-color: #0d9488; background: color-mix(in srgb, #0d9488 18%, transparent); }
.ours button.act.small { min-height: 32px; min-width: 32px; padding: 0 8px; }
:is(.ours button.act, .ours summary, button, input, textarea, [role=tab]):focus-visible {
  outline: 2px solid #0d9488 !important; outline-offset: 2px; }
.cards { display: grid; gap: 12px; }
.card, .answer { border: 1px solid var(--border-color-primary); border-radius: 12px; padding: 14px 16px;
  background: var(--block-background-fill); }
.card .head { display: grid; grid-template-columns: auto 1fr auto; gap: 4px 12px; align-items: start; }
.card .place { font-size: .82rem; font-weight: 700; min-width: 26px; height: 26px; border-radius: 13px; display: grid;
  place-items: center; background: color-mix(in srgb, #0d9488 16%, transparent); color: var(--body-text-color); }
.card h3, .answer h3 { margin: 0 0 4px; font-size: 1.02rem; font-weight: 650; line-height: 1.35; }
.card .acts { display: flex; gap: 6px; }
.chips { display: flex; flex-wrap: wrap; gap: 4px; }
.ours .chip {
  font-size: .76rem; padding: 1px 8px; border-radius: 99px; white-space: nowrap; max-width: 100%;
  flex: none; overflow: hidden; text-overflow: ellipsis;
  background: color-mix(in srgb, var(--body-text-color) 8%, transparent); }
.ours .chip.quiet { background: none; border: 1px solid var(--border-color-primary);
  color: var(--body-text-color-subdued); }
.card .head { margin-bottom: 10px; }
.ours .reason { margin: 0 !important; }
.ours ul.bars { margin: 10px 0 4px; }
.answer .figures + .reason { margin-top: 6px !important; }
.ours .bars li { display: grid; grid-template-columns: minmax(0, 1fr) minmax(60px, 34%) 56px; gap: 10px;
  align-items: center; font-size: .86rem; padding: 2px 0; }
.bars .what { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bars .bar { height: 8px; border-radius: 4px; background: color-mix(in srgb, var(--body-text-color) 9%, transparent);
  display: block; }
.bars .bar i { display: block; height: 100%; border-radius: 4px; background: #0d9488; }
.bars .against .bar i { background: #d97706; }
.bars .factor { white-space: nowrap; font-variant-numeric: tabular-nums; text-align: right;
  color: var(--body-text-color-subdued); }
.ours summary { cursor: pointer; font-size: .86rem; padding: 6px 0; color: var(--body-text-color-subdued); }
.alpha { display: flex; height: 12px; border-radius: 6px; overflow: hidden; gap: 1px; }
.alpha i { display: block; height: 100%; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; margin-top: 6px !important; font-size: .8rem; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 5px; }
.m0 { background: #0d9488; } .m1 { background: #6366f1; } .m2 { background: #d97706; } .m3 { background: #db2777; }
.m4 { background: #0284c7; } .m5 { background: #65a30d; } .m6 { background: #9333ea; } .m7 { background: #64748b; }
.ours .plain li { font-size: .86rem; padding: 2px 0; }
.memory { margin-top: 12px; border-top: 1px solid var(--border-color-primary); padding-top: 4px; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 4px 24px; }
.ours .rows li { display: flex; justify-content: space-between; align-items: center; gap: 10px; padding: 6px 0;
  border-bottom: 1px solid color-mix(in srgb, var(--border-color-primary) 70%, transparent); font-size: .9rem; }
.ours .rows li:last-child { border-bottom: 0; }
.rows li > b { flex: none; font-variant-numeric: tabular-nums; }
.nothing { border: 1px dashed var(--border-color-primary); border-radius: 10px; padding: 14px 16px; }
.nothing p { margin: 4px 0 0; color: var(--body-text-color-subdued); font-size: .88rem; }
.hidden-count { margin: 8px 0 0; font-size: .88rem; display: flex; gap: 10px; align-items: center; }
.status { color: var(--body-text-color-subdued); font-size: .84rem; min-height: 1.3em; }
.figures { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 8px 0; }
.figures span { color: var(--body-text-color-subdued); font-size: .84rem; }
.figures b { display: block; color: var(--body-text-color); font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.verdict { margin: 0; font-weight: 600; }
.pair { border: 1px solid var(--border-color-primary); border-radius: 12px; padding: 14px 16px; height: 100%;
  background: var(--block-background-fill); }
.pair h4 { margin-top: 0; }
.pair p { margin: 0; }
.results table { display: block; overflow-x: auto; white-space: nowrap; border-collapse: collapse; font-size: .88rem;
  border: 0 !important; }
.results :is(tr, thead, tbody) { border: 0 !important; }
.results :is(th, td) { text-align: left; padding: 6px 12px 6px 0 !important; border: 0 !important;
  border-bottom: 1px solid var(--border-color-primary) !important; }
/* The message says it; a second mark on every output does not say more. */
.wrap > span.error, .clear-status { display: none !important; }
.suggested { display: flex; flex-direction: column; gap: 6px; align-items: flex-start; margin-top: 10px; }
.ours .suggested button.act { white-space: normal; text-align: left; line-height: 1.3; padding: 8px 12px; flex: auto; }
.box { background: var(--block-background-fill); border: 1px solid var(--border-color-primary);
  border-radius: 12px; padding: 14px 16px !important; gap: 10px !important; }
.ours h2 { font-size: .98rem !important; font-weight: 650 !important; margin: 0 !important; }
.box .block { border: 0 !important; background: none !important; padding: 0 !important; box-shadow: none !important;
  overflow: visible !important; }
.box .form { border: 0 !important; background: none !important; gap: 14px !important; overflow: visible !important;
  box-shadow: none !important; }
.act svg { width: 17px; height: 17px; display: block; margin: auto; }
.tab-container button.selected { color: #0f766e !important; }
.dark .tab-container button.selected { color: #2dd4bf !important; }
@media (max-width: 640px) {
  .tab-wrapper button { padding-inline: 7px !important; font-size: .86rem !important; }
  .gradio-container .main, .gradio-container .main > .wrap { padding-inline: 4px !important; }
  .card .head { grid-template-columns: auto 1fr; }
  .card .acts { grid-column: 1 / -1; margin-top: 8px; }
  .card .acts button.act { flex: 1; min-height: 42px; }
  .ours button.act.small { min-height: 40px; min-width: 40px; }
  .ours .bars li { grid-template-columns: minmax(0, 1fr) 26% 54px; gap: 8px; }
}
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
"""
