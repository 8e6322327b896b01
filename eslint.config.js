import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    files: ["**/*.js"],
    languageOptions: { ecmaVersion: 2022, sourceType: "module" },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      curly: ["error", "multi-line"],
      eqeqeq: "error",
      "no-console": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-shadow": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-template": "error",
    },
  },
  {
    files: ["voicews/static/voicews/*.js", "voicews/static/voicews/admin/*.js"],
    ignores: ["voicews/static/voicews/*-worklet.js"],
    languageOptions: { globals: globals.browser },
  },
  {
    files: ["voicews/static/voicews/*-worklet.js"],
    languageOptions: { globals: globals.audioWorklet },
  },
  { files: ["tests/js/*.js"], languageOptions: { globals: globals.node } },
];
