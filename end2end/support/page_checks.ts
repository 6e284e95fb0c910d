// What can be wrong with a page. Each of these answers with what is; all but the last run in the page.

/** What the rules of accessibility say that axe doesn't ask. */
export function structure(): string[] {
  const wrong: string[] = [];
  const all = <E extends Element = HTMLElement>(selector: string): E[] => [...document.querySelectorAll<E>(selector)];
  const hidden = (element: Element): boolean => (element as HTMLInputElement).type === "hidden";
  const said = (element: Element | null | undefined): string => (element?.textContent ?? "").replace(/\s+/g, " ").trim();

  if (document.documentElement.lang !== "en") wrong.push("no language");
  for (const part of document.body.children) if (!part.matches(".skip, header, main, footer, div")) wrong.push(`in no landmark: ${part.outerHTML}`);
  for (const selector of ["main", "h1"]) if (all(selector).length !== 1) wrong.push(`${all(selector).length} ${selector}`);
  const error = document.querySelector(".error, .summary");
  const title = `${error ? "Error: " : ""}${said(document.querySelector("h1"))} – Latchkey${document.querySelector("header.admin") ? " admin" : ""}`;
  if (document.title !== title) wrong.push(`the title is "${document.title}", not "${title}"`);
  if (!document.querySelector("a[href], button, input, select, summary, [tabindex]")?.matches(".skip")) wrong.push("the skip link isn't first");
  for (const nav of all("nav")) if (!nav.ariaLabel && !nav.getAttribute("aria-labelledby")) wrong.push("a nav without a name");
  if (all(".primary").length > 1) wrong.push("two primary buttons");

  for (const field of all<HTMLInputElement>("input, select, textarea").filter((field) => !hidden(field))) {
    const label = field.labels?.[0];
    if (!label || !said(label) || label.closest(".vh")) wrong.push(`${field.name}: no label that is seen`);
    const described = (field.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean);
    if (described.some((id) => !document.getElementById(id))) wrong.push(`${field.name}: described by nothing`);
    if (described.length > 1 && !described[0]?.endsWith("-hint")) wrong.push(`${field.name}: its hint isn't read first`);
    if (field.ariaInvalid && !described.some((id) => document.getElementById(id)?.matches(".error"))) wrong.push(`${field.name}: its error isn't read`);
  }
  for (const error of all(".error")) {
    if (!said(error).startsWith("Error: ") || !said(error.querySelector(".vh")).startsWith("Error:")) wrong.push(`"${said(error)}" isn't called an error`);
  }
  for (const focused of all("[autofocus]")) {
    if (!focused.matches("[aria-invalid], [tabindex='-1']")) wrong.push("focus on something that isn't wrong");
  }
  for (const time of all<HTMLTimeElement>("time")) if (!time.dateTime) wrong.push(`"${said(time)}" is no time to a machine`);

  // What leads or does something else is called something else, in rows that all have the same.
  const does = new Map<string, Set<string>>();
  const note = (name: string, what: string): void => void does.set(name, (does.get(name) ?? new Set()).add(what));
  for (const link of all<HTMLAnchorElement>(":is(.row, tr) a[href]")) note(`the link "${link.ariaLabel ?? said(link)}"`, link.getAttribute("href") ?? "");
  for (const button of all<HTMLButtonElement>(":is(.row, tr) button")) {
    const form = button.form;
    const fields = form ? [...form.querySelectorAll<HTMLInputElement>("input[type=hidden]")].map(({ name, value }) => `${name}=${value}`) : [];
    note(`the button "${button.ariaLabel ?? said(button)}"`, [button.formAction, button.name, button.value, ...fields].join(" "));
  }
  for (const [name, what] of does) if (what.size > 1) wrong.push(`${name} does ${what.size} things`);
  return wrong;
}

/** Text that lies outside of the window or of the box that it belongs to. Where text is large a table may move within its box. */
export function cutOff(large: boolean): string[] {
  const wrong = new Set<string>();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode;
    const parent = node.parentElement;
    const text = (node.textContent ?? "").trim();
    if (!parent?.checkVisibility() || !text || parent.closest(".vh, .skip, thead, select, svg, [style*='max-height: 0']")) continue;
    if (large && parent.closest("[role=table]")) continue;
    // What is cut short on purpose says so by dots.
    if (getComputedStyle(parent).textOverflow === "ellipsis") continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const line of range.getClientRects()) {
      if (line.width < 1 || line.height < 1) continue;
      if (line.left < -1 || line.right > innerWidth + 1) wrong.add(`outside: ${text}`);
      for (let box: Element | null = parent; box && box !== document.body; box = box.parentElement) {
        const { overflowX, overflowY, borderTopWidth, backgroundColor } = getComputedStyle(box);
        const edges = box.getBoundingClientRect();
        const across = line.right > edges.right + 1 || line.left < edges.left - 1;
        const down = line.top < edges.top - 1 || line.bottom > edges.bottom + 1;
        if ((overflowX !== "visible" && across) || (overflowY !== "visible" && down)) wrong.add(`cut: ${text}`);
        const seen = borderTopWidth !== "0px" || backgroundColor !== "rgba(0, 0, 0, 0)";
        if (seen && across && overflowX === "visible") wrong.add(`over the edge: ${text}`);
      }
    }
  }
  return [...wrong];
}

/** What is pressed is at least 44 px wide and high; links within a sentence are as high as its lines. */
export function targets(): string[] {
  const wrong = new Set<string>();
  for (const target of document.querySelectorAll<HTMLElement>("a[href], button, input:not([type=hidden]), select, summary")) {
    if (target.matches(".skip") || !target.checkVisibility()) continue;
    const rects = [target.getBoundingClientRect()];
    // A box is pressed by its words, too.
    if (target.matches("[type=checkbox], [type=radio]")) for (const label of (target as HTMLInputElement).labels ?? []) rects.push(label.getBoundingClientRect());
    const width = Math.max(...rects.map(({ right }) => right)) - Math.min(...rects.map(({ left }) => left));
    const height = Math.max(...rects.map(({ bottom }) => bottom)) - Math.min(...rects.map(({ top }) => top));
    const sentence = (target.parentElement?.textContent ?? "").replace(/\s+/g, " ").trim();
    const own = (target.textContent ?? "").replace(/\s+/g, " ").trim();
    if (getComputedStyle(target).display.startsWith("inline") && sentence !== own && target.closest("p, dd, pre, .prose li")) continue;
    if (width < 43.9 || height < 43.9) wrong.add(`${own || target.id}: ${width.toFixed(0)} by ${height.toFixed(0)}`);
  }
  return [...wrong];
}

/** In forced colours fills are gone: what was one has an edge. */
export function unmarked(): string[] {
  const wrong = new Set<string>();
  for (const box of document.querySelectorAll(".flow > main, .panel, .notice, .badge, .button, input:not([type=hidden]), select")) {
    const { borderTopStyle, borderTopWidth, paddingLeft } = getComputedStyle(box);
    // On a phone the page is the card.
    if (box.matches("main") && paddingLeft === "0px") continue;
    const edge = borderTopStyle === "none" ? 0 : parseFloat(borderTopWidth);
    if (edge < (box.ariaInvalid && !box.matches("[type=checkbox]") ? 3 : 1)) wrong.add(`${box.className || box.tagName}: ${edge} px`);
  }
  return [...wrong];
}

/** What no tree of roles and names may have, whatever else is in it. */
export function ariaFaults(tree: string): string[] {
  const lines = tree.split("\n").map((line) => line.trim());
  const nameless = lines.filter((line) => /^- (button|link|textbox|searchbox|checkbox|radio|combobox|img|navigation|table|group|region)( \[.*\])?:?$/.test(line));
  const levels = lines.flatMap((line) => /^- heading .*\[level=(\d)\]/.exec(line)?.[1] ?? []).map(Number);
  const headings = [
    ...(levels.filter((level) => level === 1).length === 1 ? [] : ["not one first heading"]),
    ...levels.flatMap((level, n) => (n > 0 && level > (levels[n - 1] ?? 0) + 1 ? [`a heading of level ${level} below one of ${levels[n - 1]}`] : [])),
  ];
  const buttons = lines.flatMap((line) => /^- button "(.*?)"/.exec(line)?.[1] ?? []);
  const twice = buttons.filter((name, n) => buttons.indexOf(name) < n).map((name) => `two buttons are called ${name}`);
  const inMain = lines.slice(lines.indexOf("- main:"));
  const links = new Map<string, string>();
  const ambiguous = inMain.flatMap((line, n) => {
    const name = /^- '?link "(.*?)"/.exec(line)?.[1];
    const leads = /^- \/url: (.*)/.exec(inMain[n + 1] ?? "")?.[1];
    if (name === undefined || leads === undefined) return [];
    const before = links.get(name) ?? leads;
    links.set(name, leads);
    return before === leads ? [] : [`links called ${name} lead to ${before} and to ${leads}`];
  });
  const mains = lines.filter((line) => /^- main\b/.test(line)).length;
  return [...nameless, ...headings, ...twice, ...ambiguous, ...(mains === 1 ? [] : ["not one main part"])];
}
