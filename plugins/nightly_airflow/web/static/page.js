// In Airflow's frame the page takes Airflow's theme and colours, and a link to a run leaves the frame.
"use strict";
const COLOURS = { page: "bg", card: "bg-subtle", text: "fg", muted: "fg-muted", line: "border" };
if (window.parent !== window) {
  try {
    const theirs = window.parent.document.documentElement;
    const follow = () => {
      const theme = ["dark", "light"].find((name) => theirs.classList.contains(name));
      if (theme) document.documentElement.dataset.theme = theme;
      for (const [ours, name] of Object.entries(COLOURS)) {
        const colour = window.parent.getComputedStyle(theirs).getPropertyValue(`--chakra-colors-${name}`);
        if (colour) document.documentElement.style.setProperty(`--${ours}`, colour);
      }
    };
    follow();
    new MutationObserver(follow).observe(theirs, { attributeFilter: ["class"] });
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-airflow]");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const outside = window.parent.document.createElement("a"); // the frame itself may not navigate its parent
      outside.href = link.href;
      outside.click();
    });
  } catch {
    // Framed by another origin: the page stays as it is.
  }
}
// Each command has a button that copies it.
for (const box of document.querySelectorAll(".command")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(box.querySelector("code").textContent);
    button.textContent = "Copied";
  });
  box.append(button);
}
