import js from "@eslint/js";
import globals from "globals";

export default [
  // Bundled from packages that are not ours.
  { ignores: ["tests/interop/build/"] },
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
    files: ["voicews/static/**/*.js", "tests/browser/static/**/*.js", "tests/interop/page/*.js"],
    ignores: ["**/*-worklet.js"],
    languageOptions: { globals: globals.browser },
  },
  {
    files: ["**/*-worklet.js"],
    languageOptions: { globals: globals.audioWorklet },
  },
  { files: ["tests/js/*.js"], languageOptions: { globals: globals.node } },
];
