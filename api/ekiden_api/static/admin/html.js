// Where the libraries come in: markup as tagged templates, whose values become text nodes, and Preact's hooks.

import htm from "htm";
import { h } from "preact";

export { render } from "preact";
export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

export const html = htm.bind(h);
