// Runs before the first paint, so that a remembered choice does not flash. A classic script: all modules see `theme`.

const theme = {
  /** "light", "dark", or "auto": as the system says. */
  get choice() {
    const kept = localStorage.getItem("ekiden.admin.theme");
    return ["light", "dark"].includes(kept) ? kept : "auto";
  },

  set choice(choice) {
    if (choice === "auto") localStorage.removeItem("ekiden.admin.theme");
    else localStorage.setItem("ekiden.admin.theme", choice);
    this.apply();
  },

  apply() {
    if (this.choice === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.choice;
    dispatchEvent(new Event("themechange"));
  },
};

theme.apply();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme.apply());
