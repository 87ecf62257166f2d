// The admin dashboard: shows what the job store says, over /admin/live and /admin/api of its own origin alone.
// live.js carries, the views (overview, jobs, job, workers, audit) show, act.js does.

import { App } from "./app.js";
import { html, render } from "./html.js";

render(html`<${App} />`, document.getElementById("app"));
