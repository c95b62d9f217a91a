import js from "@eslint/js";
import globals from "globals";
import a11y from "eslint-plugin-jsx-a11y";
import hooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

const noBarrels = {
  "no-restricted-syntax": [
    "error",
    { selector: "ExportAllDeclaration", message: "No barrel files: import from the module that defines it." },
    {
      selector:
        "JSXAttribute[name.name='dangerouslySetInnerHTML'], MemberExpression[property.name=/^(inner|outer)HTML$/]," +
        " CallExpression[callee.property.name=/^(insertAdjacentHTML|writeln?|createContextualFragment)$/]",
      message:
        "Text is text: what somebody wrote is never markup here. Formatted mail stands in the kit's sheet alone.",
    },
  ],
};

export default tseslint.config(
  { ignores: ["dist", "node_modules", "src/api/types.gen.ts"] },
  js.configs.recommended,
  ...tseslint.configs.strict,
  {
    files: ["src/**/*.{ts,tsx}"],
    plugins: { "react-hooks": hooks },
    languageOptions: { globals: globals.browser },
    rules: {
      ...hooks.configs.recommended.rules,
      ...noBarrels,
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-dynamic-delete": "off",
      "no-console": "error",
      "@typescript-eslint/no-unused-vars": ["error", { varsIgnorePattern: "^_$", argsIgnorePattern: "^_$" }],
    },
  },
  { files: ["src/**/*.tsx"], ...a11y.flatConfigs.recommended },
  {
    files: ["src/features/**/*.{ts,tsx}"],
    rules: {
      "no-restricted-imports": [
        "error",
        {
          patterns: [
            { group: ["@/features/*", "../*"], message: "A feature imports the kit, never another feature." },
          ],
        },
      ],
    },
  },
  {
    files: ["src/kit/**/*.{ts,tsx}", "src/api/**/*.{ts,tsx}"],
    rules: {
      "no-restricted-imports": [
        "error",
        { patterns: [{ group: ["@/features/*", "../features/*"], message: "The kit knows no feature." }] },
      ],
    },
  },
  {
    files: ["src/**/*.test.ts", "tests/**/*.ts", "scripts/**/*.mjs", "*.config.{js,ts}"],
    languageOptions: { globals: globals.node },
  },
);
